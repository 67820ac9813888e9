#!/bin/bash
# root.sh DIRECTORY REPOSITORY SCRIPT: runs the script over this machine's programs in a root and a network of its own;
# what it writes lies in DIRECTORY and goes with it. Needs root.
set -eu
directory=$1 repository=$2
mount -t tmpfs tmpfs "$directory"
mkdir "$directory/up" "$directory/work" "$directory/root" "$directory/up-repository" "$directory/work-repository"
root=$directory/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/up,workdir=$directory/work" "$root"
for each in proc dev sys; do mount --rbind "/$each" "$root/$each"; done
for each in run tmp; do mount -t tmpfs tmpfs "$root/$each"; done
mkdir -p "$root/opt" "$root/run/repository"
mount -t overlay overlay -o \
  "lowerdir=$repository,upperdir=$directory/up-repository,workdir=$directory/work-repository" "$root/run/repository"
cp "$3" "$root/run/script"
ip link set lo up
ip address add 10.9.0.2/32 dev lo
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  HOME=/root /bin/bash /run/script
