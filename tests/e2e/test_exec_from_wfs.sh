#!/bin/bash
# A program and a script that lie in WFS run from there.
. "$(dirname "$0")/lib.sh"

work_dir
wfs cp /bin/echo "$work/echo"
[ "$(wfs "$work/echo" a b)" = 'a b' ] || fail "binary"
wfs sh -c "printf '#!/bin/sh\necho script \$1\n' >$work/script && chmod +x $work/script"
[ "$(wfs sh -c "$work/script x")" = 'script x' ] || fail "script"
