// kubelet's plugin manager by itself: it watches a directory and registers what appears there.
// What kubelet's CSI code would make of a plugin is told by a file: there, it holds the error to refuse with.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager"
)

type handler struct{ refusal string }

func (h handler) ValidatePlugin(name, endpoint string, versions []string) error {
	fmt.Println("validating", name, endpoint, versions)
	return nil
}

func (h handler) RegisterPlugin(name, _ string, _ []string, _ *time.Duration) error {
	if refusal, err := os.ReadFile(h.refusal); err == nil {
		fmt.Println("refusing", name)
		return errors.New(string(refusal))
	}
	fmt.Println("registering", name)
	return nil
}

func (h handler) DeRegisterPlugin(name, _ string) {
	fmt.Println("deregistering", name)
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "Usage: plugin-manager DIRECTORY FILE")
		os.Exit(2)
	}
	manager := pluginmanager.NewPluginManager(os.Args[1], record.NewFakeRecorder(0))
	manager.AddHandler("CSIPlugin", handler{os.Args[2]})
	fmt.Println("watching", os.Args[1])
	manager.Run(context.Background(), config.NewSourcesReady(nil), make(chan struct{}))
}
