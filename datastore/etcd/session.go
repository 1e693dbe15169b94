package etcd

import (
	"context"
	"errors"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// session logs a user in, and again when the token is no longer valid: a token expires when it is not used for some minutes, and a
// member forgets all tokens when it restarts. The client of etcd could do the same. But it sends the old token with the request for
// a new one, which servers before 3.5 always refuse, and it logs in for each watch, which keeps a cluster busy after an election.
type session struct {
	user, password string
	turn           chan struct{} // has one element while a goroutine logs in

	mu       sync.Mutex
	loggedIn bool
	token    string // empty if the cluster has no users
}

func newSession(user, password string) *session {
	return &session{user: user, password: password, turn: make(chan struct{}, 1)}
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s *session) GetRequestMetadata(_ context.Context, uri ...string) (map[string]string, error) {
	token, _ := s.known()
	if token == "" || len(uri) > 0 && strings.HasSuffix(uri[0], "/"+pb.Auth_ServiceDesc.ServiceName) {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. The password itself is no safer without TLS.
func (s *session) RequireTransportSecurity() bool { return false }

// options returns the options of a connection of this user.
func (s *session) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithPerRPCCredentials(s), grpc.WithChainUnaryInterceptor(s.call), grpc.WithChainStreamInterceptor(s.open),
	}
}

func (s *session) call(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if method == pb.Auth_Authenticate_FullMethodName {
		return invoke(ctx, method, request, reply, conn, options...)
	}
	shown, err := s.logIn(ctx, conn)
	if err != nil {
		return err
	}
	err = invoke(ctx, method, request, reply, conn, options...)
	if !isLoggedOut(err) {
		return err
	}
	s.logOut(shown)
	if _, err := s.logIn(ctx, conn); err != nil {
		return err
	}
	return invoke(ctx, method, request, reply, conn, options...)
}

// logIn returns the token of the user, and logs in if there is none. Only one goroutine logs in at a time; the others wait for its
// token.
func (s *session) logIn(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	if token, ok := s.known(); ok {
		return token, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if token, ok := s.known(); ok {
		return token, nil
	}
	response, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: s.user, Password: s.password})
	if err != nil && !errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loggedIn, s.token = true, response.GetToken()
	return s.token, nil
}

func (s *session) known() (token string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token, s.loggedIn
}

// logOut forgets a token, unless it was replaced already.
func (s *session) logOut(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.loggedIn, s.token = false, ""
	}
}

// isLoggedOut says whether a request was refused because its token was missing or not valid. Such a request has no effect.
func isLoggedOut(err error) bool {
	return err != nil && isAny(rpctypes.Error(err), rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty)
}

// open opens a stream that logs the user out if its token is refused.
func (s *session) open(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	shown, err := s.logIn(ctx, conn)
	if err != nil {
		return nil, err
	}
	stream, err := open(ctx, desc, conn, method, options...)
	if err != nil {
		return nil, err
	}
	return &userStream{ClientStream: stream, refused: func() { s.logOut(shown) }}, nil
}

// userStream is a stream of a user.
type userStream struct {
	grpc.ClientStream
	refused func()
}

// RecvMsg implements grpc.ClientStream. Servers refuse a watch in the same way because of its token and because of a missing
// permission, so both log out.
func (s *userStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	response, _ := message.(*pb.WatchResponse)
	if isLoggedOut(err) || err == nil && response.GetCreated() && response.GetCanceled() {
		s.refused()
	}
	return err
}
