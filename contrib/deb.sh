#!/bin/sh
# Builds a .deb from a built binary, with dpkg-deb alone: contrib/deb.sh BINARY FOLDER. Prints the path of the package.
set -eu

binary=$1
into=$2
root=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
architecture=$(dpkg --print-architecture)
# The newest version of the C library that the binary asks for.
glibc=$(grep -ao 'GLIBC_2\.[0-9]*' "$binary" | sed 's/GLIBC_//' | sort -uV | tail -n 1)

mkdir -p "$into"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
put() { install -D -m "$1" "$2" "$tree$3"; }

put 755 "$binary" /usr/bin/evenkeel
strip --strip-unneeded "$tree/usr/bin/evenkeel"
put 644 "$root/contrib/evenkeel.service" /usr/lib/systemd/system/evenkeel.service
put 644 "$root/contrib/evenkeel.toml" /etc/evenkeel/evenkeel.toml
for page in "$root"/docs/*.md "$root/README.md" "$root/SECURITY.md"; do
    put 644 "$page" "/usr/share/doc/evenkeel/$(basename "$page")"
done
# What shells and man want to know, as the binary says it itself.
made=$(mktemp -d)
trap 'rm -rf "$tree" "$made"' EXIT
"$binary" man "$made/man"
for page in "$made"/man/*.1; do
    [ -e "$page" ] || continue
    gzip -9n "$page"
    put 644 "$page.gz" "/usr/share/man/man1/$(basename "$page").gz"
done
for shell in bash zsh fish; do "$binary" completions $shell >"$made/$shell"; done
put 644 "$made/bash" /usr/share/bash-completion/completions/evenkeel
put 644 "$made/zsh" /usr/share/zsh/vendor-completions/_evenkeel
put 644 "$made/fish" /usr/share/fish/vendor_completions.d/evenkeel.fish
cat "$root/LICENSE-MIT" "$root/LICENSE-APACHE" >"$tree/usr/share/doc/evenkeel/copyright"
gzip -9n <"$root/CHANGELOG.md" >"$tree/usr/share/doc/evenkeel/changelog.gz"
chmod 644 "$tree"/usr/share/doc/evenkeel/*
mkdir "$tree/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@GLIBC@/$glibc/" \
    "$root/contrib/debian/control" >"$tree/DEBIAN/control"
for file in conffiles postinst prerm postrm; do
    cp -p "$root/contrib/debian/$file" "$tree/DEBIAN/$file"
done
package=$into/evenkeel_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$tree" "$package" >/dev/null
echo "$package"
