package bpf

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/margay-project/margay/bpf/layout"
)

// mapping is the memory of one table in the kernel.
type mapping struct {
	bytes []byte
}

func (m *mapping) close() error {
	if m.bytes == nil {
		return nil
	}
	err := unix.Munmap(m.bytes)
	m.bytes = nil
	return err
}

// mapArray shows an array of the kernel as a slice: programs read what is written there. The slice must not be used
// after the mapping is closed.
func mapArray[T any](array *ebpf.Map, name string) ([]T, *mapping, error) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	if size != int(array.ValueSize()) || size%8 != 0 {
		return nil, nil, fmt.Errorf("map table %s to memory: its elements have %d bytes, not %d", name, array.ValueSize(), size)
	}
	n := int(array.MaxEntries())
	page := os.Getpagesize()
	length := (n*size + page - 1) / page * page
	bytes, err := unix.Mmap(array.FD(), 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, explain("map table "+name+" to memory", err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&bytes[0])), n), &mapping{bytes}, nil
}

// Memory is the arrays of a generation that the classifier fills, in the kernel's memory: see classifier.Memory.
type Memory struct {
	Slots       []layout.Slot
	Vectors     []layout.Vector // block b of vector v is v*Blocks+b
	Chunks      []layout.Chunk
	Wild        []layout.Wild // by block
	Services    []uint32      // by point (layout.ServiceTCP and the like): a vector
	SourcePorts []uint32      // by point: a vector
	mappings    []*mapping
}

// mapMemory maps the arrays. After an error nothing is mapped.
func mapMemory(maps *programMaps) (m Memory, err error) {
	add := func(mp *mapping, e error) {
		err = errors.Join(err, e)
		if mp != nil {
			m.mappings = append(m.mappings, mp)
		}
	}
	var mp *mapping
	var e error
	m.Slots, mp, e = mapArray[layout.Slot](maps.Slots, "slots")
	add(mp, e)
	m.Vectors, mp, e = mapArray[layout.Vector](maps.Vectors, "vectors")
	add(mp, e)
	m.Chunks, mp, e = mapArray[layout.Chunk](maps.Chunks, "chunks")
	add(mp, e)
	m.Wild, mp, e = mapArray[layout.Wild](maps.Wilds, "wild")
	add(mp, e)
	services, mp, e := mapArray[layout.PointPage](maps.Services, "services")
	add(mp, e)
	sourcePorts, mp, e := mapArray[layout.PointPage](maps.SourcePorts, "source ports")
	add(mp, e)
	if err != nil {
		return m, errors.Join(err, m.close())
	}
	m.Services = points(services)[:layout.Services]
	m.SourcePorts = points(sourcePorts)[:layout.SourcePorts]
	return m, nil
}

// points shows pages of points as one line.
func points(pages []layout.PointPage) []uint32 {
	return unsafe.Slice(&pages[0].Vector[0], len(pages)*int(layout.PagePoints))
}

func (m *Memory) close() error {
	var err error
	for _, mp := range m.mappings {
		err = errors.Join(err, mp.close())
	}
	*m = Memory{}
	return err
}
