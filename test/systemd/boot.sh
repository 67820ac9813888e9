#!/bin/bash
# boot.sh DIRECTORY REPOSITORY: a systemd of its own as PID 1, over this machine's programs, with nothing but nines to
# run. Everything it writes is in DIRECTORY; processes, mounts and interfaces end with it. Needs root.
set -eu
directory=$1 repository=$2
if [ -z "${3:-}" ]; then
  # A control group of its own, which is the root of all that systemd sees.
  mount -t tmpfs tmpfs "$directory"
  mkdir "$directory/groups"
  mount -t cgroup2 cgroup2 "$directory/groups"
  mkdir "$directory/groups/$(basename "$directory")"
  echo $$ >"$directory/groups/$(basename "$directory")/cgroup.procs"
  exec unshare --cgroup --pid --net --uts --ipc --fork --kill-child bash "$0" "$directory" "$repository" inside
fi
ip link set lo up
ip link add wire0 type veth peer name wire1
ip address add 10.9.0.2/24 dev wire0
ip link set wire0 up
# Nobody is there to answer for the addresses.
ip link set wire1 arp off up

mkdir "$directory/up" "$directory/work" "$directory/root"
root=$directory/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/up,workdir=$directory/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
for each in run tmp dev var/log etc/systemd/system; do
  mount -t tmpfs tmpfs "$root/$each"
done
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for each in null zero full random urandom tty; do
  touch "$root/dev/$each"
  mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/usr/lib/nines" "$root/etc/nines" "$root/old"
mount -t devpts devpts "$root/dev/pts"
mount --bind "$repository" "$root/usr/lib/nines"
printf '#!/bin/sh\nexec node /usr/lib/nines/dist/cli/main.js "$@"\n' >"$root/usr/bin/nines"
chmod +x "$root/usr/bin/nines"
cp "$repository/packaging/nines@.service" "$root/etc/systemd/system/"
# What a container may not do: make device nodes, raise limits.
mkdir "$root/etc/systemd/system/nines@.service.d"
printf '[Service]\nPrivateDevices=no\nOOMScoreAdjust=0\n' >"$root/etc/systemd/system/nines@.service.d/container.conf"
cat >"$root/etc/systemd/system/nines-test.target" <<'END'
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
END
cp "$repository/test/systemd/site.yaml" "$root/etc/nines/site.yaml"
cd "$root"
pivot_root . old
umount -l /old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /usr/lib/systemd/systemd --system --unit=nines-test.target --log-level=err --log-target=console --show-status=no
