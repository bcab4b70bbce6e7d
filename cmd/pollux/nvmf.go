package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/pollux-storage/pollux/ctl/api"
)

// nvmfCmd is about hosts over NVMe/TCP.
type nvmfCmd struct {
	List     nvmfListCmd     `cmd:"" help:"List the subsystems, where they can be reached and what they show."`
	Export   nvmfExportCmd   `cmd:"" help:"Show a block device to hosts, in a subsystem of its own, and say how to connect."`
	Unexport nvmfUnexportCmd `cmd:"" help:"Take a subsystem away; hosts lose their connections."`
	Allow    nvmfAllowCmd    `cmd:"" help:"Let a host connect to a subsystem."`
	Deny     nvmfDenyCmd     `cmd:"" help:"Let a host connect no more, and end its connections."`
	Hosts    nvmfHostsCmd    `cmd:"" help:"List the hosts that are connected."`
}

type nvmfListCmd struct {
	engineFlags
	outputFlags
	NQN string `arg:"" optional:"" help:"Only this subsystem."`
}

// Run lists.
func (c *nvmfListCmd) Run() error {
	subsystems, err := ask(&c.engineFlags, api.NVMFGetSubsystems, api.NVMFGetSubsystemsParams{NQN: c.NQN})
	if err != nil {
		return err
	}
	return c.print(subsystems, func(t *table) {
		t.columns("NQN", "NAMESPACES", "ADDRESSES", "HOSTS")
		for _, s := range subsystems {
			t.row(s.NQN, namespaces(&s), addresses(&s), hosts(&s))
		}
	})
}

func namespaces(s *api.NVMFSubsystem) string {
	if s.Namespaces == nil {
		return "discovery"
	}
	var list []string
	for _, n := range *s.Namespaces {
		list = append(list, fmt.Sprintf("%d=%s", n.NSID, n.BdevName))
	}
	return strings.Join(list, " ")
}

func addresses(s *api.NVMFSubsystem) string {
	var list []string
	for _, a := range s.ListenAddresses {
		list = append(list, fmt.Sprintf("%s %s:%s", strings.ToLower(a.TrType), a.TrAddr, a.TrSvcID))
	}
	return strings.Join(list, ", ")
}

func hosts(s *api.NVMFSubsystem) string {
	if s.AllowAnyHost {
		return "any"
	}
	return fmt.Sprintf("%d allowed", len(s.Hosts))
}

type nvmfExportCmd struct {
	engineFlags
	Bdev    string `arg:"" help:"Block device, as bdev list names it."`
	NQN     string `placeholder:"NQN" help:"Name of the subsystem; nqn.2026-01.io.pollux: and the device's name without it."`
	TrType  string `name:"trtype" enum:"tcp,rdma" default:"tcp" help:"Transport: tcp or rdma (${default})."`
	Address string `default:"127.0.0.1" placeholder:"IP" help:"Address to listen at (${default})."`
	Port    uint16 `default:"4420" help:"Port to listen at (${default})."`
	AnyHost bool   `help:"Let every host connect. Without it, allow hosts one by one: pollux nvmf allow."`
}

// Run exports. What it made is taken away again where a later step fails.
func (c *nvmfExportCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	if c.NQN == "" {
		c.NQN = "nqn.2026-01.io.pollux:" + c.Bdev
	}
	ctx := context.Background()
	if err := c.steps(ctx, engine); err != nil {
		return fmt.Errorf("export %s: %w", c.Bdev, err)
	}
	fmt.Printf("%s is subsystem %s. Connect a Linux host with\n\n  nvme connect -t %s -a %s -s %d -n %s\n", c.Bdev, c.NQN, c.TrType, c.Address, c.Port, c.NQN)
	if !c.AnyHost {
		fmt.Printf("\nafter allowing it here, by the name in its /etc/nvme/hostnqn, with\n\n  pollux nvmf allow %s HOSTNQN\n", c.NQN)
	}
	return nil
}

func (c *nvmfExportCmd) steps(ctx context.Context, engine api.Caller) error {
	trtype := strings.ToUpper(c.TrType)
	if _, err := api.NVMFGetTransports.Call(ctx, engine, api.NVMFGetTransportsParams{TrType: trtype}); errors.Is(err, syscall.ENODEV) {
		_, err = api.NVMFCreateTransport.Call(ctx, engine, api.NVMFCreateTransportParams{TrType: trtype})
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if _, err := api.NVMFCreateSubsystem.Call(ctx, engine, api.NVMFCreateSubsystemParams{NQN: c.NQN, AllowAnyHost: c.AnyHost}); err != nil {
		return err
	}
	_, err := api.NVMFSubsystemAddNS.Call(ctx, engine, api.NVMFAddNSParams{NQN: c.NQN, Namespace: api.NVMFNamespaceParams{BdevName: c.Bdev}})
	if err == nil {
		family := "IPv4"
		if strings.Contains(c.Address, ":") {
			family = "IPv6"
		}
		_, err = api.NVMFSubsystemAddListener.Call(ctx, engine, api.NVMFAddListenerParams{NQN: c.NQN, ListenAddress: api.NVMFAddress{
			TrType: trtype, AdrFam: family, TrAddr: c.Address, TrSvcID: fmt.Sprint(c.Port),
		}})
	}
	if err == nil {
		return nil
	}
	_, undone := api.NVMFDeleteSubsystem.Call(ctx, engine, api.NVMFSubsystemParams{NQN: c.NQN})
	return errors.Join(err, undone)
}

type nvmfUnexportCmd struct {
	engineFlags
	NQN string `arg:"" help:"Subsystem, as nvmf list names it."`
}

// Run deletes the subsystem.
func (c *nvmfUnexportCmd) Run() error {
	_, err := ask(&c.engineFlags, api.NVMFDeleteSubsystem, api.NVMFSubsystemParams{NQN: c.NQN})
	return err
}

type nvmfAllowCmd struct {
	engineFlags
	NQN  string `arg:"" help:"Subsystem."`
	Host string `arg:"" help:"NQN of the host; on Linux it stands in /etc/nvme/hostnqn."`
}

// Run allows the host.
func (c *nvmfAllowCmd) Run() error {
	_, err := ask(&c.engineFlags, api.NVMFSubsystemAddHost, api.NVMFAddHostParams{NQN: c.NQN, Host: c.Host})
	return err
}

type nvmfDenyCmd struct {
	engineFlags
	NQN  string `arg:"" help:"Subsystem."`
	Host string `arg:"" help:"NQN of the host."`
}

// Run denies the host.
func (c *nvmfDenyCmd) Run() error {
	_, err := ask(&c.engineFlags, api.NVMFSubsystemRemoveHost, api.NVMFRemoveHostParams{NQN: c.NQN, Host: c.Host})
	return err
}

type nvmfHostsCmd struct {
	engineFlags
	outputFlags
}

// connectedHost is a controller with the subsystem it belongs to.
type connectedHost struct {
	NQN string `json:"nqn"`
	api.NVMFController
}

// Run lists.
func (c *nvmfHostsCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	list, err := hostsOf(context.Background(), engine)
	if err != nil {
		return err
	}
	return c.print(list, func(t *table) {
		t.columns("NQN", "HOST", "CNTLID", "KIND", "QUEUES")
		for _, k := range list {
			t.row(k.NQN, k.HostNQN, k.CntlID, k.CntrlType, k.NumIOQpairs)
		}
	})
}

// hostsOf asks for the controllers of every subsystem.
func hostsOf(ctx context.Context, engine api.Caller) ([]connectedHost, error) {
	subsystems, err := api.NVMFGetSubsystems.Call(ctx, engine, api.NVMFGetSubsystemsParams{})
	if err != nil {
		return nil, err
	}
	list := []connectedHost{}
	for _, s := range subsystems {
		controllers, err := api.NVMFSubsystemGetControllers.Call(ctx, engine, api.NVMFSubsystemParams{NQN: s.NQN})
		if err != nil {
			return nil, err
		}
		for _, k := range controllers {
			list = append(list, connectedHost{s.NQN, k})
		}
	}
	return list, nil
}
