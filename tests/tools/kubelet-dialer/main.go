// Does to a plugin's socket what kubelet does, with kubelet's libraries; see usage.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const usage = `Usage:
  kubelet-dialer register SOCKET TIMES [ERROR]   on one connection, as kubelet dials
  kubelet-dialer stress SOCKET TIMES             the same with fields that drive others out of the table of both sides
  kubelet-dialer localhost SOCKET TIMES          the same with the authority localhost
  kubelet-dialer unix SOCKET TIMES               the same with the target unix://SOCKET
  kubelet-dialer csi SOCKET                      name and readiness, as node-driver-registrar and livenessprobe ask

GetInfo and NotifyRegistrationStatus are called in turn, TIMES times; with ERROR, kubelet says that it refuses.
One line of JSON for each GetInfo. Exit code 1 for any failure.`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "csi":
		return csi(args[1])
	case len(args) >= 3:
		times, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return register(args[0], args[1], times, strings.Join(args[3:], " "))
	}
	return fmt.Errorf("%s", usage)
}

// As dial() of kubelet's pkg/kubelet/pluginmanager/operationexecutor; what differs is named by `how`.
func dial(how, socket string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithBlock(),
	}
	var dialed atomic.Bool
	dialer := grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		// Lost, it would be made anew behind our back, and a call that broke it repeated.
		if dialed.Swap(true) {
			fmt.Fprintln(os.Stderr, "the connection was lost")
			os.Exit(1)
		}
		return (&net.Dialer{}).DialContext(ctx, "unix", addr)
	})
	target := socket
	switch how {
	case "register", "stress":
		options = append(options, dialer)
	case "localhost":
		options = append(options, dialer, grpc.WithAuthority("localhost"))
	case "unix":
		target = "unix://" + socket
	default:
		return nil, fmt.Errorf("%s", usage)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return grpc.DialContext(ctx, target, options...)
}

func register(how, socket string, times int, refusal string) error {
	conn, err := dial(how, socket)
	if err != nil {
		return fmt.Errorf("dialing %s: %w", socket, err)
	}
	defer conn.Close()
	client := registerapi.NewRegistrationClient(conn)
	for i := range times {
		ctx := context.Background()
		if how == "stress" {
			// Of all lengths up to a third of the table's 4 KiB, and each of them new.
			field := strings.Repeat("x", i*37%1300) + strconv.Itoa(i)
			ctx = metadata.AppendToOutgoingContext(ctx, "field-"+strconv.Itoa(i%3), field)
		}
		if err := once(ctx, client, refusal); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return nil
}

func once(base context.Context, client registerapi.RegistrationClient, refusal string) error {
	ctx, cancel := context.WithTimeout(base, time.Second)
	defer cancel()
	info, err := client.GetInfo(ctx, &registerapi.InfoRequest{})
	if err != nil {
		return fmt.Errorf("GetInfo: %w", err)
	}
	line, err := json.Marshal(map[string]any{
		"type": info.Type, "name": info.Name, "endpoint": info.Endpoint, "versions": info.SupportedVersions,
	})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	ctx, cancel = context.WithTimeout(base, 5*time.Second)
	defer cancel()
	status := &registerapi.RegistrationStatus{PluginRegistered: refusal == "", Error: refusal}
	if _, err = client.NotifyRegistrationStatus(ctx, status); err != nil {
		return fmt.Errorf("NotifyRegistrationStatus: %w", err)
	}
	return nil
}

func csi(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := connection.Connect(ctx, socket, metrics.NewCSIMetricsManager(""))
	if err != nil {
		return err
	}
	defer conn.Close()
	name, err := rpc.GetDriverName(ctx, conn)
	if err != nil {
		return fmt.Errorf("GetPluginInfo: %w", err)
	}
	ready, err := rpc.Probe(ctx, conn)
	if err != nil {
		return fmt.Errorf("Probe: %w", err)
	}
	fmt.Printf("%s ready=%v\n", name, ready)
	return nil
}
