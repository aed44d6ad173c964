// Katib's early stopping by the median, behind Katib's own protocol: its service is Python, and in no package.
//
// Restated from pkg/earlystopping/v1beta1/medianstop of 0.19, whose median is a mean: of what each trial that succeeded
// reported first, start_step reports of it, once there are min_trials_required such trials. A new trial whose reports
// come to less is stopped.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	health "github.com/kubeflow/katib/pkg/apis/manager/health"
	api "github.com/kubeflow/katib/pkg/apis/manager/v1beta1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const (
	address       = ":6788"
	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

type service struct {
	trials dynamic.ResourceInterface
}

func (*service) Check(context.Context, *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

func (*service) ValidateEarlyStoppingSettings(
	_ context.Context, asked *api.ValidateEarlyStoppingSettingsRequest,
) (*api.ValidateEarlyStoppingSettingsReply, error) {
	if name := asked.EarlyStopping.AlgorithmName; name != "medianstop" {
		return nil, status.Errorf(codes.InvalidArgument, "unknown algorithm name %s", name)
	}
	for _, setting := range asked.EarlyStopping.AlgorithmSettings {
		known := setting.Name == "min_trials_required" || setting.Name == "start_step"
		if value, err := strconv.Atoi(setting.Value); !known || err != nil || value < 1 {
			return nil, status.Errorf(codes.InvalidArgument, "setting %s(%s) of medianstop", setting.Name, setting.Value)
		}
	}
	return &api.ValidateEarlyStoppingSettingsReply{}, nil
}

func (*service) GetEarlyStoppingRules(
	ctx context.Context, asked *api.GetEarlyStoppingRulesRequest,
) (*api.GetEarlyStoppingRulesReply, error) {
	settings := map[string]int{"min_trials_required": 3, "start_step": 4}
	for _, setting := range asked.Experiment.Spec.EarlyStopping.AlgorithmSettings {
		value, err := strconv.Atoi(setting.Value)
		if err != nil {
			return nil, err
		}
		settings[setting.Name] = value
	}
	connection, err := grpc.NewClient(asked.DbManagerAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	manager, metric := api.NewDBManagerClient(connection), asked.Experiment.Spec.Objective.ObjectiveMetricName
	sum, succeeded := 0.0, 0
	for _, trial := range asked.Trials {
		if trial.Status.Condition != api.TrialStatus_SUCCEEDED {
			continue
		}
		found, err := manager.GetObservationLog(
			ctx, &api.GetObservationLogRequest{TrialName: trial.Name, MetricName: metric},
		)
		if err != nil {
			return nil, err
		}
		reports := found.ObservationLog.MetricLogs
		reports = reports[:min(len(reports), settings["start_step"])]
		total := 0.0
		for _, report := range reports {
			value, err := strconv.ParseFloat(report.Metric.Value, 64)
			if err != nil {
				return nil, err
			}
			total += value
		}
		sum, succeeded = sum+total/float64(len(reports)), succeeded+1
	}
	if succeeded < settings["min_trials_required"] {
		return &api.GetEarlyStoppingRulesReply{}, nil
	}
	worse := api.ComparisonType_LESS
	if asked.Experiment.Spec.Objective.Type == api.ObjectiveType_MINIMIZE {
		worse = api.ComparisonType_GREATER
	}
	return &api.GetEarlyStoppingRulesReply{EarlyStoppingRules: []*api.EarlyStoppingRule{{
		Name:       metric,
		Value:      strconv.FormatFloat(sum/float64(succeeded), 'g', -1, 64),
		Comparison: worse,
		StartStep:  int32(settings["start_step"]),
	}}}, nil
}

// SetTrialStatus is what the collector asks for when it has stopped a trial.
func (s *service) SetTrialStatus(
	ctx context.Context, asked *api.SetTrialStatusRequest,
) (*api.SetTrialStatusReply, error) {
	trial, err := s.trials.Get(ctx, asked.TrialName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	conditions, _, err := unstructured.NestedSlice(trial.Object, "status", "conditions")
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Format(time.RFC3339)
	conditions = append(conditions, map[string]any{
		"type": "EarlyStopped", "status": "True", "reason": "TrialEarlyStopped", "message": "Trial is early stopped",
		"lastUpdateTime": now, "lastTransitionTime": now,
	})
	if err := unstructured.SetNestedSlice(trial.Object, conditions, "status", "conditions"); err != nil {
		return nil, err
	}
	_, err = s.trials.UpdateStatus(ctx, trial, metav1.UpdateOptions{})
	return &api.SetTrialStatusReply{}, err
}

func serve() error {
	namespace, err := os.ReadFile(namespaceFile)
	if err != nil {
		return err
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	cluster, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	trials := schema.GroupVersionResource{Group: "kubeflow.org", Version: "v1beta1", Resource: "trials"}
	answering := &service{cluster.Resource(trials).Namespace(string(namespace))}
	server := grpc.NewServer()
	api.RegisterEarlyStoppingServer(server, answering)
	health.RegisterHealthServer(server, answering)
	return server.Serve(listener)
}

func main() {
	log.Fatal(serve())
}
