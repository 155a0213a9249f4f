// Command gitops does to objects what GitOps tools do, by the libraries that these use: kstatus for the state of an
// object, and Flux's server-side apply. Objects come as JSON Lines on standard input; results go to standard output as
// JSON, one line for each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

const (
	usage        = "usage: gitops kstatus | apply | diff | wait TIMEOUT | prune, with objects as JSON Lines"
	pollInterval = 200 * time.Millisecond
	maxLineBytes = 1 << 24
)

// owner is who applies: the field manager and the label prefix of Flux's kustomize-controller.
var owner = ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}

func main() {
	log.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string, in io.Reader, out io.Writer) error {
	if len(arguments) == 0 {
		return fmt.Errorf(usage)
	}
	objects, err := read(in)
	if err != nil {
		return err
	}
	results := json.NewEncoder(out)
	if arguments[0] == "kstatus" {
		return compute(objects, results)
	}
	manager, err := connect()
	if err != nil {
		return err
	}
	switch {
	case arguments[0] == "apply":
		return apply(ctx, manager, objects, results)
	case arguments[0] == "diff":
		return diff(ctx, manager, objects, results)
	case arguments[0] == "prune":
		return prune(ctx, manager, objects, results)
	case arguments[0] == "wait" && len(arguments) == 2:
		timeout, err := time.ParseDuration(arguments[1])
		if err != nil {
			return err
		}
		return manager.Wait(objects, ssa.WaitOptions{Interval: pollInterval, Timeout: timeout, FailFast: true})
	}
	return fmt.Errorf(usage)
}

func read(in io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(objects)+1, err)
		}
		objects = append(objects, object)
	}
	return objects, lines.Err()
}

// compute writes the state of each object, as kubectl, Flux and Config Sync compute it.
func compute(objects []*unstructured.Unstructured, results *json.Encoder) error {
	for _, object := range objects {
		found, err := status.Compute(object)
		if err != nil {
			return err
		}
		if err := results.Encode(map[string]string{"status": found.Status.String(), "message": found.Message}); err != nil {
			return err
		}
	}
	return nil
}

func connect() (*ssa.ResourceManager, error) {
	configuration, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	httpClient, err := rest.HTTPClientFor(configuration)
	if err != nil {
		return nil, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(configuration, httpClient)
	if err != nil {
		return nil, err
	}
	kube, err := client.New(configuration, client.Options{HTTPClient: httpClient, Mapper: mapper})
	if err != nil {
		return nil, err
	}
	return ssa.NewResourceManager(kube, polling.NewStatusPoller(kube, mapper, polling.Options{}), owner), nil
}

func apply(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured, results *json.Encoder) error {
	changes, err := manager.ApplyAllStaged(ctx, objects, ssa.DefaultApplyOptions())
	if err != nil {
		return err
	}
	for _, entry := range changes.Entries {
		if err := results.Encode(map[string]string{"subject": entry.Subject, "action": entry.Action.String()}); err != nil {
			return err
		}
	}
	return nil
}

// diff writes what a sync would do to each object: a dry run by the API server, compared with what is there.
func diff(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured, results *json.Encoder) error {
	for _, object := range objects {
		entry, live, merged, err := manager.Diff(ctx, object, ssa.DefaultDiffOptions())
		if err != nil {
			return err
		}
		result := map[string]any{"subject": entry.Subject, "action": entry.Action.String()}
		if entry.Action == ssa.ConfiguredAction {
			result["live"], result["merged"] = live, merged
		}
		if err := results.Encode(result); err != nil {
			return err
		}
	}
	return nil
}

func prune(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured, results *json.Encoder) error {
	changes, err := manager.DeleteAll(ctx, objects, ssa.DefaultDeleteOptions())
	if err != nil {
		return err
	}
	for _, entry := range changes.Entries {
		if err := results.Encode(map[string]string{"subject": entry.Subject, "action": entry.Action.String()}); err != nil {
			return err
		}
	}
	return manager.WaitForTermination(objects, ssa.WaitOptions{Interval: pollInterval, Timeout: time.Minute})
}
