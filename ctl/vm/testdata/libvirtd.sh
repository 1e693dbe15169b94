#!/bin/sh
# Runs libvirt in namespaces of its own: sh libvirtd.sh MARGAYCTL CONFIG EXAMPLES. What each step prints is the result of the test.
set -u
margayctl=$1 config=$2 examples=$3
for dir in /run /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
	mkdir -p $dir && mount -t tmpfs none $dir || exit 1
done
mount -t proc proc /proc
mkdir -p /run/libvirt /var/lib/libvirt/qemu
export LIBVIRT_DEFAULT_URI=qemu:///system
cat >/etc/libvirt/qemu.conf <<X
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
user = "root"
group = "root"
remember_owner = 0
stdio_handler = "file"
X
printf 'auth_unix_rw = "none"\nunix_sock_group = "root"\n' >/etc/libvirt/libvirtd.conf
ip link set lo up
for bridge in br0 br1; do ip link add $bridge type bridge && ip link set $bridge up; done

libvirt() {
	libvirtd -d || exit 1
	until virsh version >/dev/null 2>&1; do sleep 0.1; done
}
ctl() { "$margayctl" -c "$config" "$@"; }
endpoints() { ctl workload list -A | awk -F'|' 'NF > 1 && $2 !~ /NAMESPACE/ { gsub(/ +/, " "); print }'; }
step() { echo "== $*"; }

step install
ctl vm hook install --node host1 >/dev/null || exit 1
libvirt

step start a routed and a bridged domain
virsh -q create "$examples/vm-routed.xml" 2>&1
virsh -q create "$examples/vm-bridged.xml" 2>&1
endpoints

step attach changes nothing
ctl vm attach web --node host1

step wrong metadata
sed 's/margay:label key/margay:lable key/; s/>web</>wrong</; s/cali-web/cali-wrong/; s/:56/:66/' "$examples/vm-routed.xml" >/tmp/wrong.xml
virsh -q create /tmp/wrong.xml 2>&1 | grep -o 'metadata of domain.*'
virsh -q list --name

step stop
virsh -q destroy web 2>&1
endpoints

step the datastore does not answer
cp "$config" "$config.good"
sed 's#unix://.*#unix:///nowhere#' "$config.good" >"$config"
virsh -q create "$examples/vm-routed.xml" 2>&1 | grep -o 'domain web does not start.*'
virsh -q list --name

step libvirt starts again meanwhile
kill "$(cat /run/libvirtd.pid)"
while [ -e "/proc/$(cat /run/libvirtd.pid 2>/dev/null || echo none)" ]; do sleep 0.1; done
libvirt
virsh -q list --name

step the datastore answers again
cp "$config.good" "$config"
virsh -q destroy db 2>&1
endpoints
ctl ipam check | tail -1
