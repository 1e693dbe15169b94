// Package lab builds networks for tests: hosts, the cables between them, virtual machines behind them, programs that run on
// them, traffic and packets. A host is a network namespace without a name. It ends with the last thread, process and socket
// in it, so nothing is left behind, however a test ends. Programs are killed with the test that started them.
//
// A test reads like this:
//
//	func TestAVMAnswersItsClient(t *testing.T) {
//		host, client := lab.NewHost(t), lab.NewHost(t)
//		lab.Cable(host, "eth0", client, "eth0")
//		host.Up("eth0", "192.0.2.10/24")
//		client.Up("eth0", "192.0.2.1/24")
//		client.DefaultRoute("eth0", "192.0.2.10")
//
//		vm := host.Plug("cali1", "10.65.0.2")
//		vm.Echo(80)
//		etcd := etcdlab.StartServer(t, lab.ShortDir(t))
//		host.Start(exec.Command("felix", "--node-name", "host1", "--etcd-endpoints", etcd.Endpoint()))
//		lab.Await(t, func() error {
//			if !client.ReachesAtOnce("tcp", vm.Addresses[0], 80) {
//				return errors.New("the VM does not answer")
//			}
//			return nil
//		})
//	}
//
// There is one word for each thing:
//
//   - Host: a network namespace. NewHost makes one, Enter makes one and moves the test into it.
//   - VM: a host behind one interface of another host, which Plug makes.
//   - Process: a program on a host.
//   - Stream: a conversation that never pauses, whose losses are counted.
//   - Wire: a packet socket, which sends frames as they are and sees every frame that arrives.
//   - Await: waits for a condition; LetPass is for what has none.
//
// Package router has routers that speak BGP, package etcdlab servers and clusters of etcd, package packet builds
// packets.
//
// Methods fail the test that their host belongs to. Only Do, Run and those that dial return an error, because tests expect
// some. No program of ours links this package: imports_test.go holds that.
package lab
