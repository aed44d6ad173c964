"""Documented commands that nobody types as the page has them: the test that runs each, or why none can."""

from __future__ import annotations

# Tests that run commands in a state that they need (a cluster, a release under way, another installation, a long run),
# and what these command lines begin with. Where a target is named, that test's project names it.
HELD = {
    "platform/test_wheel.py::test_an_installed_wheel_goes_from_nothing_to_a_served_model": [
        r"lifecycle setup",
        r"lifecycle run training\nerror: steps run in environments",
        r"pip install .?kfp_lifecycle-",
    ],
    "platform/test_wheel.py::test_a_command_that_lacks_the_extra_says_so_in_one_line": [
        r"lifecycle status\nerror: this needs httpx",
    ],
    "platform/test_wheel.py::test_the_wheel_holds_the_package_and_nothing_else": [
        r".venv/bin/python -m hatchling build",
    ],
    "platform/test_whole_run.py::test_a_run_that_is_interrupted_leaves_nothing_and_is_resumed": [
        r"lifecycle run training --resume",
    ],
    "platform/test_whole_run.py::test_a_bad_batch_stops_the_run_and_says_why": [
        r"lifecycle run training --set source\.url=duckdb",
        r"lifecycle simulate --output bad\.duckdb --customers 2000",
    ],
    "platform/test_whole_run.py::test_a_changed_setting_runs_the_model_again_and_a_miss_is_no_error": [
        r"lifecycle run training --set tuning\.trials",
    ],
    "platform/test_whole_run.py::test_a_recalibration_keeps_the_trees_of_what_serves_and_searches_nothing": [
        r"lifecycle run training --parameter remedy=recalibrate",
    ],
    "platform/test_whole_run.py::test_batch_scoring_and_materialization_run": [
        r"lifecycle run (batch_scoring|materialization)$",
    ],
    "platform/test_whole_run.py::test_a_window_of_the_past_is_listed_run_once_and_left_afterwards": [
        r"lifecycle run monitoring --parameter",
        r"lifecycle schedule backfill monitoring --from 2026-(09-01|11-01)$",
        r"lifecycle schedule backfill( monitoring)?$",
    ],
    "platform/test_whole_run.py::test_a_released_version_is_trained_again_to_the_same_bytes": [
        r"lifecycle reproduce",
    ],
    "platform/test_whole_run.py::test_cdnow_runs_to_an_endpoint_without_a_line_of_code": [
        r"curl -s \S+/models/cdnow/infer",
        r"make run PROJECT=examples/cdnow",
    ],
    "validation/test_ingest_increments.py::test_a_longer_look_back_for_one_run_mends_an_older_mistake": [
        r"lifecycle run training --set source\.tables\.invoices",
    ],
    "platform/test_cluster_commands.py::test_one_command_uploads_submits_and_shows_a_run_to_its_end": [
        r"lifecycle run (\w+ )?--target (kubeflow|vertex)$",
    ],
    "platform/test_cluster_commands.py::test_a_bad_batch_ends_the_run_with_exit_code_1_and_its_reason": [
        r"lifecycle run materialization\n.*failed",
    ],
    "platform/test_cluster_commands.py::test_a_detached_run_is_named_and_goes_on": [
        r"lifecycle run training --target kubeflow --detach",
        r"lifecycle watch (3f1c… --target|[bc]\w+-…)",
    ],
    "platform/test_cluster_commands.py::test_runs_logs_and_exit_codes": [
        r"lifecycle (runs|logs|artifacts) .*--target kubeflow",
        r"lifecycle (cancel|resume)\b",
    ],
    "platform/test_cluster_commands.py::test_a_window_that_is_past_is_listed_with_what_would_run": [
        r"lifecycle schedule backfill monitoring --from 2026-11-01 --to",
    ],
    "platform/test_cluster_commands.py::test_schedules_are_applied_twice_and_read_what_has_come": [
        r"lifecycle schedule (apply|list|delete) .*--target|lifecycle schedule apply --target",
        r"lifecycle schedule apply\n.*\nchurn-materialization[^\n]*(\n\Z|\Z)",
    ],
    "platform/test_every_cluster.py::test_what_a_person_paused_stays_paused": [
        r"lifecycle schedule (pause|resume) training --target",
    ],
    "platform/test_cluster_commands.py::test_new_data_is_submitted_once_for_each_version_through_a_restart": [
        r"lifecycle trigger new-data (--target kubeflow )?--version",
        r"lifecycle trigger new-data --target kubeflow$",
    ],
    "platform/test_cluster_commands.py::test_a_trigger_may_stay_and_look_again": [
        r"lifecycle trigger new-data --target kubeflow --every",
    ],
    "platform/test_triggers.py::test_new_data_is_run_once_on_this_machine_and_again_when_more_has_come": [
        r"lifecycle trigger new-data$",
    ],
    "platform/test_retraining.py::test_a_person_approves_what_a_run_of_monitoring_asks_for": [
        r"lifecycle trigger approve",
    ],
    "platform/test_cluster_commands.py::test_the_doctor_finds_what_is_in_the_way": [
        r"lifecycle doctor( --target kubeflow)?$",
    ],
    "platform/test_doctor.py::test_stores_are_asked_from_a_pod_with_what_a_step_is_told": [
        r"lifecycle doctor .*--from-a-pod",
    ],
    "platform/test_vertex_doctor.py::test_nothing_is_in_the_way": [
        r"lifecycle doctor --target vertex",
    ],
    "platform/test_survival.py::test_the_commands_take_a_cut_off_candidate_and_return_from_it_with_the_registry": [
        r"lifecycle (release|rollback|promote)\b(?!.*--target)",
    ],
    "platform/test_schema_command.py::test_a_schema_is_proposed_compared_and_changed_only_with_a_yes": [
        r"lifecycle schema (infer|accept|diff)",
    ],
    "platform/test_documented_commands.py::test_a_command_of_the_tutorial_does_what_the_page_shows": [
        r"lifecycle init churn --from customers\.csv$",
    ],
    "platform/test_data_versions.py::test_versions_are_listed_by_last_use_and_come_back_byte_for_byte": [
        r"lifecycle data (log|checkout a7e77a59 --output tables)\n",
    ],
    "modelling/test_approval.py::test_a_person_decides_only_on_what_the_gate_approved": [
        r"lifecycle approve 3 --target kubeflow",
    ],
    "modelling/test_forget.py::test_the_person_goes_and_nobody_else_loses_a_row": [
        r"lifecycle forget 17 --yes",
    ],
    "platform/test_lineage.py::test_a_prediction_leads_back_to_data_code_environment_and_whoever_released_it": [
        r"lifecycle lineage 5a0c1f5e-prediction",
    ],
    "platform/test_compilation.py::test_a_definition_that_a_warehouse_might_read_otherwise_is_refused_when_compiling": [
        r"lifecycle compile .*offline_store=sc://",
    ],
    "platform/test_own_table.py::test_the_first_run_ends_with_a_model_that_answers": [
        r"lifecycle init … --yes",
    ],
    "platform/test_init.py::test_a_sheet_of_a_workbook": [
        r"lifecycle init churn --from customers\.(xlsx|csv --from)",
    ],
    "platform/test_dashboards.py::test_the_command_serves_until_it_is_interrupted_and_a_taken_port_is_named": [
        r"lifecycle dashboard( &| --target .*)?$",
    ],
    "platform/test_alert_rules.py::test_prometheus_raises_each_alert_when_it_should_and_takes_it_back": [
        r"promtool test rules",
    ],
    "platform/test_compose.py::test_another_teams_pipeline_runs_with_three_of_our_components": [
        r"python examples/compose/run\.py$",
    ],
    "platform/test_compose.py::test_a_bad_table_stops_it_in_the_components_own_words": [
        r"python examples/compose/run\.py --refunds 3",
    ],
    "platform/test_whole_run.py::test_one_command_ends_with_a_model_that_answers": [
        r"(make|lifecycle) run$",
    ],
    "platform/test_whole_run.py::test_down_leaves_no_process_and_serve_brings_the_model_back": [
        r"make down",
    ],
    "platform/test_wheel.py::test_every_python_compiles_the_same_bytes": [
        r"make compile PROJECT=examples/cdnow",
        r"lifecycle compile --target kubeflow --components",
    ],
    "platform/test_wheel.py::test_an_example_compiles_in_an_empty_folder": [
        r"lifecycle (example cdnow \. && lifecycle compile|example cdnow \.$)",
        r"lifecycle compile( --target kubeflow)?$",
    ],
    "platform/test_images.py::test_every_image_that_a_pipeline_asks_for_is_built_and_pushed_by_that_name": [
        r"make images",
        r"lifecycle compile .*--image-registry",
    ],
    "platform/test_supply_chain.py::test_a_bill_of_materials_lists_a_lock_s_packages_with_the_hashes_of_their_files": [
        r"make sbom",
    ],
    "node/test_server_image.py::test_its_bill_of_materials_lists_all_that_is_installed_in_it": [
        r"root=\$\(buildah mount",
        r".venv/bin/python -m kfp_lifecycle\.environments\.bill_of_materials --root",
    ],
    "platform/test_supply_chain.py::test_an_audit_finds_what_the_page_does_not_answer_and_only_that": [
        r"make audit",
        r"python -m kfp_lifecycle\.environments\.audit -s osv",
    ],
    "platform/test_site.py::test_a_link_to_a_file_of_the_repository_leads_to_its_copy": [
        r"make docs",
    ],
    "platform/test_site.py::test_the_reference_is_fresh": [
        r"make reference",
        r"python -m kfp_lifecycle\.cli\.reference",
    ],
    "platform/test_catalogue.py::test_the_catalogue_is_fresh": [
        r"python -m kfp_lifecycle\.compilation\.catalogue",
    ],
    "platform/test_catalogue.py::test_the_documents_of_artifacts_are_described_and_published_from_their_types": [
        r"python -m kfp_lifecycle\.compilation\.artifact_catalogue",
    ],
    "platform/test_pipeline_shapes.py::test_the_shape_of_each_pipeline_is_the_reviewed_one": [
        r"python -m kfp_lifecycle\.compilation\.shape",
    ],
    "katib/test_katib.py::test_trials_run_the_same_training_code_in_the_modelling_environment": [
        r"python -m kfp_lifecycle\.tuning\.trial",
    ],
}

# What these command lines begin with, and why no test can run them.
NOT_HERE = {
    r"make (setup-tests|test|lint)\b": "CI is made of them, this test among the rest",
    r"make clean": "it removes the environments that the tests run in",
    r"make (bench|demo|lock|notices|pictures)\b": "minutes to hours, or the whole package index",
    r"(\.venv/bin/)?python (benchmarks/run\.py|demo/run\.py|-m benchmarks\.)": "a benchmark, of minutes to hours",
    r"python -c \"import …\"": "what a table of benchmarks measures, not a command to be typed",
    r"pre-commit install": "a hook of the reader's own clone",
    r"kubectl\b": "the reader's cluster; tests apply the manifests to a Kubernetes API server",
    r"gcloud|PROJECT=|ACCOUNT=|SUBMITTER=|for \w+ in|done$|printf %s .*gcloud": "the reader's account at Google Cloud",
    r"prometheus --config\.file": "a server that does not end; tests let one read the same configuration",
    r"docker (login|build|buildx)\b": "the reader's registry; tests build images by buildah",
    r"pip install 'kfp-lifecycle\[lineage\]'": "the package index, where the wheel is not before its release",
}
