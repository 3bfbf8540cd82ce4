#!/bin/bash
# The posix_* programs pass on a local directory and in WFS.
. "$(dirname "$0")/lib.sh"

WFS_SOCKET=$WFS_CLUSTER/node0/wfsd.sock \
	bash "$(dirname "$0")/posix.sh" "$E2E_HELPERS" "$(realpath "$E2E_BIN/../lib/libwfs_preload.so")"
