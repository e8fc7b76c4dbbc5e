package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	// devices is how many pods of the node may have the device at once.
	devices = 100
	// registerTime bounds the registration with the kubelet.
	registerTime = 30 * time.Second
)

// plugin hands the tun device out as the extended resource of a device plugin, as a cluster with restricted guests has it.
// https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
type plugin struct {
	v1beta1.UnimplementedDevicePluginServer
	tun string // on the node
}

// serve makes the device, offers it under the name until it is told to end, and removes what it made.
func serve(resource string) (err error) {
	p := &plugin{}
	if p.tun, err = tunDevice(); err != nil {
		return err
	}
	defer removeTun()
	socket := v1beta1.DevicePluginPath + ownTun + ".sock"
	_ = os.Remove(socket) // of one that was killed
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer os.Remove(socket)
	server := grpc.NewServer()
	v1beta1.RegisterDevicePluginServer(server, p)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer server.Stop()
	if err := register(resource, ownTun+".sock"); err != nil {
		return fmt.Errorf("register with the kubelet: %w", err)
	}
	fmt.Printf("tun %s\n", p.tun)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		return nil
	case err := <-failed:
		return err
	}
}

func register(resource, endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), registerTime)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+v1beta1.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = v1beta1.NewRegistrationClient(conn).Register(ctx, &v1beta1.RegisterRequest{
		Version: v1beta1.Version, Endpoint: endpoint, ResourceName: resource,
	})
	return err
}

func (p *plugin) GetDevicePluginOptions(context.Context, *v1beta1.Empty) (*v1beta1.DevicePluginOptions, error) {
	return &v1beta1.DevicePluginOptions{}, nil
}

// ListAndWatch says once that all is well: a node's tun device does not come and go.
func (p *plugin) ListAndWatch(_ *v1beta1.Empty, stream v1beta1.DevicePlugin_ListAndWatchServer) error {
	list := &v1beta1.ListAndWatchResponse{}
	for i := range devices {
		list.Devices = append(list.Devices, &v1beta1.Device{ID: fmt.Sprintf("tun-%d", i), Health: v1beta1.Healthy})
	}
	if err := stream.Send(list); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *v1beta1.AllocateRequest) (*v1beta1.AllocateResponse, error) {
	response := &v1beta1.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &v1beta1.ContainerAllocateResponse{
			Devices: []*v1beta1.DeviceSpec{{HostPath: p.tun, ContainerPath: "/dev/net/tun", Permissions: "rw"}},
		})
	}
	return response, nil
}
