package trust

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podnic/podnic/test/podtest"
)

// launcherLab runs the launcher's first process in a mount and a PID namespace that are gone with it: /run is an emptyDir, and
// in the place of the programs that the image brings there are those that say what is asked.
const launcherLab = `
mount --make-rprivate /
mount -t tmpfs -o mode=0777 tmpfs /run
chmod 0777 /run
mount -t tmpfs tmpfs /usr/local
mkdir -p /usr/local/libexec /usr/local/bin
cat >/usr/local/libexec/as-guest <<'END'
#!/bin/sh
shift 5 # --reuid 107 --regid 107 --keep-groups
exec setpriv --reuid 107 --regid 107 --clear-groups --bounding-set=-all --inh-caps=-all "$@"
END
cat >/usr/local/bin/libvirtd <<'END'
#!/bin/sh
exec sleep 600
END
cat >/usr/local/bin/sed <<'END'
#!/bin/sh
id -u >/run/libvirt/console-user
END
cat >/usr/local/bin/podnic <<'END'
#!/bin/sh
stat -c '%n %A %u' /run /run/podnic
evil() { setpriv --reuid 107 --regid 107 --clear-groups --bounding-set=-all --inh-caps=-all "$@" 2>/dev/null && echo "done: $*"; }
evil mv /run/podnic /run/gone
evil rmdir /run/podnic
evil mkdir /run/podnic/eth0
evil ln -s /etc /run/podnic/.podnic
evil mkdir /run/other
until [ -s /run/libvirt/console-user ]; do sleep 0.05; done
echo "console by $(cat /run/libvirt/console-user)"
END
chmod 755 /usr/local/*/*
PATH=/usr/local/bin:$PATH exec "$1" --domain /none
`

// TestLauncherMakesItsDirectoryFirst so that the guest's user cannot take its place, in a /run that everybody can write.
func TestLauncherMakesItsDirectoryFirst(t *testing.T) {
	podtest.NeedRoot(t)
	t.Parallel()
	launcher, err := filepath.Abs("../../deploy/image/podnic-launcher")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"sh", "-e", "-c", launcherLab, "sh", launcher)
	cmd.Env = append(os.Environ(), "PODNIC_STATE_DIR=/run/podnic")
	out, err := cmd.CombinedOutput()
	want := "/run drwxrwxrwt 0\n/run/podnic drwxr-xr-x 0\ndone: mkdir /run/other\nconsole by 107\n"
	if got := string(out); err != nil || strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%v; the launcher's run says\n%s\nwant\n%s", err, got, want)
	}
}
