// Katib's own rules, asked on a command line: its webhook's on experiments, its collector's on what trials print.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	commonv1beta1 "github.com/kubeflow/katib/pkg/apis/controller/common/v1beta1"
	experimentsv1beta1 "github.com/kubeflow/katib/pkg/apis/controller/experiments/v1beta1"
	"github.com/kubeflow/katib/pkg/controller.v1beta1/consts"
	"github.com/kubeflow/katib/pkg/controller.v1beta1/experiment/manifest"
	collector "github.com/kubeflow/katib/pkg/metricscollector/v1beta1/file-metricscollector"
	"github.com/kubeflow/katib/pkg/webhook/v1beta1/experiment/validator"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// What an installation of Katib says of the algorithms that it has.
const config = `apiVersion: config.kubeflow.org/v1beta1
kind: KatibConfig
runtime:
  suggestions: [{algorithmName: tpe, image: suggestion}]
  earlyStoppings: [{algorithmName: medianstop, image: stopping}]
  metricsCollectors: [{kind: StdOut, image: collector}]
`

// validate answers with what the webhook has against an experiment.
func validate(content []byte) (any, error) {
	var experiment experimentsv1beta1.Experiment
	if err := json.Unmarshal(content, &experiment); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	installed := corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: consts.KatibConfigMapName, Namespace: consts.DefaultKatibNamespace},
		Data:       map[string]string{"katib-config.yaml": config},
	}
	cluster := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&installed).Build()
	experiment.SetDefault()
	refused := validator.New(manifest.New(cluster)).ValidateExperiment(&experiment, nil)
	found := []string{}
	for _, problem := range append(field.ErrorList{}, refused...) {
		found = append(found, problem.Error())
	}
	return found, nil
}

// collect answers with the reports that the collector finds in a file.
func collect(file, metric string) (any, error) {
	log, err := collector.CollectObservationLog(file, []string{metric}, nil, commonv1beta1.TextFormat)
	if err != nil {
		return nil, err
	}
	found := [][2]string{}
	for _, report := range log.MetricLogs {
		found = append(found, [2]string{report.TimeStamp, report.Metric.Value})
	}
	return found, nil
}

func main() {
	var answer any
	err := fmt.Errorf("usage: %s validate EXPERIMENT.json | collect FILE METRIC", os.Args[0])
	switch {
	case len(os.Args) == 3 && os.Args[1] == "validate":
		var content []byte
		if content, err = os.ReadFile(os.Args[2]); err == nil {
			answer, err = validate(content)
		}
	case len(os.Args) == 4 && os.Args[1] == "collect":
		answer, err = collect(os.Args[2], os.Args[3])
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
