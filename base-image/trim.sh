#!/bin/sh
# Removes from a Debian or python:slim root what a skill never needs: package managers, their caches, Perl, installers of
# Python, documentation, password tools. Runs as the last step before the root is copied as one layer.
set -eu
stdlib="$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
rm -rf \
  /tmp/* /root/.cache /var/cache/* /var/lib/apt /var/lib/dpkg/info /var/log/* /var/backups/* \
  /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bash-completion \
  /usr/share/perl* /usr/lib/*/perl* /usr/bin/perl* /usr/share/python-wheels /usr/share/debconf \
  /usr/bin/apt* /usr/lib/apt /usr/bin/dpkg* /usr/sbin/dpkg* /usr/bin/debconf* /etc/apt /etc/dpkg \
  /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/pydoc* /usr/local/bin/*-config \
  /usr/lib/*/gconv /usr/lib/*/libapt-pkg* /usr/bin/openssl /usr/bin/sqv /usr/bin/c_rehash \
  /usr/bin/passwd /usr/bin/chsh /usr/bin/chfn /usr/bin/newgrp /usr/bin/gpasswd /usr/bin/su /usr/bin/mount /usr/bin/umount \
  "$stdlib/ensurepip" "$stdlib/idlelib" "$stdlib/lib2to3" "$stdlib/pydoc_data" "$stdlib/tkinter" "$stdlib/turtledemo" \
  "$stdlib/test" "$stdlib"/config-* "$stdlib"/site-packages/pip* "$stdlib"/site-packages/setuptools*
find / -xdev -name '*.a' -type f -delete
find "$stdlib" -name __pycache__ -prune -exec rm -rf {} +
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$stdlib"
mkdir -p /skill
find / -xdev \( ! -user 0 -o ! -group 0 \) -exec chown -h 0:0 {} +
find / -xdev -perm /6000 ! -type l -exec chmod ug-s {} +
