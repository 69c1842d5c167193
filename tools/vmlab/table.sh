# The table of drivers, kernels, MTUs and paths. For run to source.
#
# Its cells are checks named `cell PATH MTU`, kept in $VMLAB/cells as lines of MODEL, VERSION of the kernel, PATH MTU, STATE and
# TEXT between tabs; those of earlier runs stay until the same is seen again.

PATHS='auto xdp tc shard zerocopy'

# table CELL…: adds cells, and writes all there are as $VMLAB/table: for each driver and kernel a line for each MTU.
table() {
    touch "$VMLAB/cells"
    {
        printf '%s\n' "$@"
        cat "$VMLAB/cells"
    } | awk -F'\t' '!seen[$1, $2, $3]++' | sort >"$VMLAB/cells.new"
    mv "$VMLAB/cells.new" "$VMLAB/cells"
    awk -F'\t' '{ split($3, of, " "); print $1 FS $2 FS of[2] FS of[1] FS $4 FS $5 }' "$VMLAB/cells" |
        sort -t$'\t' -k1,1 -k2,2V -k3,3n | awk -F'\t' -v paths="$PATHS" '
        function row(first, cell,    i) {
            printf "%-44s", first
            for (i = 1; i <= count; i++) printf "  %-12s", cell[i]
            printf "\n"
        }
        function head(driver, kernel, mtu) { return sprintf("%-13s %-23s %6s", driver, kernel, mtu) }
        BEGIN {
            count = split(paths, way, " ")
            row(head("driver", "Linux", "MTU"), way)
        }
        {
            if (line != "" && line != head($1, $2, $3)) { row(line, cell); split("", cell) }
            line = head($1, $2, $3)
            said = $5 == "ok" ? $6 : $5
            if (said ~ /, clones up to/) { few = 1; sub(/, clones.*/, "*", said) }
            sub(/ in copy mode/, " (copy)", said)
            sub(/exact by/, "exact,", said)
            for (i in way) if (way[i] == $4) cell[i] = said
        }
        END {
            row(line, cell)
            if (few) print "* clones of at most 4096 bytes: before Linux 6.6 none lies in several mirror frames"
        }' >"$VMLAB/table"
    cat "$VMLAB/table"
    printf 'in %s/table; what was said of each, in %s/cells\n' "$VMLAB" "$VMLAB"
}
