// Package agentv1 is the API of the agent, felix: its messages and service, generated from agent.proto.
package agentv1

//go:generate protoc --plugin=protoc-gen-go=../../../.ci/protoc-gen-go --plugin=protoc-gen-go-grpc=../../../.ci/protoc-gen-go-grpc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative agent.proto
