"""kfp-lifecycle: the life of a production model as typed Kubeflow Pipelines components."""
