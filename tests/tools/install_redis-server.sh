#!/bin/sh
# Installs Debian's Redis server beside $1, unpacked and not set up, and a command `redis-server` into $1.
set -eu
for tool in apt-get dpkg-deb; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }; done
bin=$(realpath -m "$1")
home=$(dirname "$bin")/redis-server
rm -rf "$home"
mkdir -p "$bin" "$home/packages"
cd "$home/packages"
apt-get -qq download redis-tools liblzf1 libjemalloc2 libatomic1 2>/dev/null ||
    { apt-get -qq update && apt-get -qq download redis-tools liblzf1 libjemalloc2 libatomic1; }
for package in *.deb; do dpkg-deb -x "$package" "$home"; done
cd "$home"
rm -rf packages
# One program under several names; this name is a package of its own, which wants to set up a service.
ln -s redis-check-rdb usr/bin/redis-server
libraries=$(dirname "$(find "$home" -name 'liblzf.so.1' | head -n 1)")
printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s/usr/bin/redis-server" "$@"\n' "$libraries" "$home" >"$bin/redis-server.new"
chmod +x "$bin/redis-server.new"
"$bin/redis-server.new" --version >/dev/null || { echo "this redis-server does not run here" >&2; exit 1; }
mv "$bin/redis-server.new" "$bin/redis-server"
