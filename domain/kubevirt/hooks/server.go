package hooks

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/podnic/podnic/domain/kubevirt"
	"github.com/podnic/podnic/domain/kubevirt/hooks/info"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha1"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha2"
	"github.com/podnic/podnic/domain/kubevirt/hooks/v1alpha3"
)

// name is what the launcher's log calls this sidecar.
const name = "podnic"

// Messages hold a domain's XML, of which libvirt takes 4 MiB at most, and a VMI, of which etcd takes 1.5 MiB. Calls are few,
// so buffers are small.
const (
	maxMessage = 8 << 20
	bufferSize = 4 << 10
)

// Serve answers calls until the context ends; then it ends those that are under way, and the socket's file goes.
func Serve(ctx context.Context, socket kubevirt.Socket, callbacks kubevirt.Callbacks, ready func(), log *zap.Logger) error {
	listener, err := listen(ctx, filepath.Join(socket.Dir, socket.Name))
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.ReadBufferSize(bufferSize), grpc.WriteBufferSize(bufferSize),
		grpc.ConnectionTimeout(answerTime), grpc.UnaryInterceptor(guard(log)),
	)
	info.RegisterInfoServer(server, infoServer{})
	v1alpha1.RegisterCallbacksServer(server, v1alpha1Server{callbacks: callbacks})
	v1alpha2.RegisterCallbacksServer(server, v1alpha2Server{callbacks: callbacks})
	v1alpha3.RegisterCallbacksServer(server, v1alpha3Server{callbacks: callbacks})
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { end(server); close(stopped) })
	ready()
	err = server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve KubeVirt's hooks on %s: %w", listener.Addr(), err)
	}
	return nil
}

// end lets calls that are under way finish, but not wait for a client that holds a connection and says nothing.
func end(server *grpc.Server) {
	patience := time.AfterFunc(answerTime, server.Stop)
	defer patience.Stop()
	server.GracefulStop()
}

// guard gives errors of callbacks a status, logs them, and makes one of a panic: what comes in was written by others, and
// the server of a guest's addresses must not end by it.
func guard(log *zap.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, call *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
		defer func() {
			if p := recover(); p != nil {
				log.Error("panic in a hook", zap.String("call", call.FullMethod), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
				answer, err = nil, status.Errorf(codes.Internal, "podnic: %s: panic: %v", call.FullMethod, p)
			}
		}()
		answer, err = handle(ctx, request)
		switch {
		case err == nil:
			log.Debug("hook", zap.String("call", call.FullMethod))
			return answer, nil
		case ctx.Err() != nil:
			err = status.FromContextError(ctx.Err()).Err() // nobody waits for the answer
		default:
			// One line, since it ends up in a condition of the VMI.
			err = status.Error(codes.FailedPrecondition, "podnic: "+strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		log.Warn("hook failed", zap.String("call", call.FullMethod), zap.Error(err))
		return nil, err
	}
}

// infoServer says which calls the sidecar wants. PreCloudInitIso is not among them: the launcher asks the first sidecar
// that wants it and no other (PreCloudInitIso in KubeVirt's pkg/hooks/manager.go), and podnic changes nothing there, so that
// it would only stand in the way of one that does.
type infoServer struct{ info.UnimplementedInfoServer }

func (infoServer) Info(context.Context, *info.InfoParams) (*info.InfoResult, error) {
	return &info.InfoResult{
		Name:       name,
		HookPoints: []*info.HookPoint{{Name: "OnDefineDomain"}, {Name: "Shutdown"}},
		Versions:   []string{"v1alpha3", "v1alpha2", "v1alpha1"},
	}, nil
}

type v1alpha1Server struct {
	v1alpha1.UnimplementedCallbacksServer
	callbacks kubevirt.Callbacks
}

func (s v1alpha1Server) OnDefineDomain(ctx context.Context, p *v1alpha1.OnDefineDomainParams) (*v1alpha1.OnDefineDomainResult, error) {
	xml, err := s.callbacks.OnDefineDomain(ctx, p.GetDomainXML(), p.GetVmi())
	return &v1alpha1.OnDefineDomainResult{DomainXML: xml}, err
}

type v1alpha2Server struct {
	v1alpha2.UnimplementedCallbacksServer
	callbacks kubevirt.Callbacks
}

func (s v1alpha2Server) OnDefineDomain(ctx context.Context, p *v1alpha2.OnDefineDomainParams) (*v1alpha2.OnDefineDomainResult, error) {
	xml, err := s.callbacks.OnDefineDomain(ctx, p.GetDomainXML(), p.GetVmi())
	return &v1alpha2.OnDefineDomainResult{DomainXML: xml}, err
}

func (v1alpha2Server) PreCloudInitIso(_ context.Context, p *v1alpha2.PreCloudInitIsoParams) (*v1alpha2.PreCloudInitIsoResult, error) {
	return &v1alpha2.PreCloudInitIsoResult{CloudInitNoCloudSource: p.GetCloudInitNoCloudSource(), CloudInitData: p.GetCloudInitData()}, nil
}

type v1alpha3Server struct {
	v1alpha3.UnimplementedCallbacksServer
	callbacks kubevirt.Callbacks
}

func (s v1alpha3Server) OnDefineDomain(ctx context.Context, p *v1alpha3.OnDefineDomainParams) (*v1alpha3.OnDefineDomainResult, error) {
	xml, err := s.callbacks.OnDefineDomain(ctx, p.GetDomainXML(), p.GetVmi())
	return &v1alpha3.OnDefineDomainResult{DomainXML: xml}, err
}

func (v1alpha3Server) PreCloudInitIso(_ context.Context, p *v1alpha3.PreCloudInitIsoParams) (*v1alpha3.PreCloudInitIsoResult, error) {
	return &v1alpha3.PreCloudInitIsoResult{CloudInitNoCloudSource: p.GetCloudInitNoCloudSource(), CloudInitData: p.GetCloudInitData()}, nil
}

func (s v1alpha3Server) Shutdown(context.Context, *v1alpha3.ShutdownParams) (*v1alpha3.ShutdownResult, error) {
	s.callbacks.Shutdown()
	return &v1alpha3.ShutdownResult{}, nil
}
