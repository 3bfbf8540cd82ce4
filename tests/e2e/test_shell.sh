#!/bin/bash
# Redirections, pipes, globs, cd and here-documents of sh and bash.
. "$(dirname "$0")/lib.sh"

work_dir
for shell in sh bash; do
	wfs $shell -e -c '
		cd '"$work"' && mkdir '$shell' && cd '$shell'
		[ "$(pwd)" = '"$work/$shell"' ]
		echo one >a; echo two >>a; echo three >b
		[ "$(cat <a | wc -l)" = 2 ]
		exec 5<a; read x <&5; read y <&5; exec 5<&-
		[ "$x $y" = "one two" ]
		cat >c <<-END
			here
		END
		[ "$(cat c)" = here ]
		set -- *; [ "$*" = "a b c" ]
		(echo sub; cat nothing) >d 2>&1 || true
		[ "$(wc -l <d)" = 2 ]
		mkdir x; cd x; echo rel >../e; cd ..; [ "$(cat x/../e)" = rel ]
		test -f a -a -d x -a ! -e no
		ln -s x/../a l; [ "$(head -n1 l)" = one ]; rm -r x
	'
done
