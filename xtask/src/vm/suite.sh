#!/bin/sh
# What the machine runs in place of an init for `cargo xtask vm --tests`: one test after the other, a row each.
cd /tmp/job || exit 1
mkdir -p /dev/pts /dev/shm
mount -t devpts d /dev/pts -o ptmxmode=666; mount -t tmpfs s /dev/shm; ln -sfn /proc/self/fd /dev/fd
rm -rf /lib/modules; ln -s /tmp/job/lib-modules /lib/modules
for module in modules/*; do insmod "$module" 2> /dev/null; done
hostname tests
# the tests make cgroups, and none may be made below one with processes in it and controllers on
mkdir -p /sys/fs/cgroup/job && echo $$ > /sys/fs/cgroup/job/cgroup.procs
export SLUICE_PATIENCE=8 RUST_BACKTRACE=1 HOME=/root
failed=0
echo
for program in target/debug/deps/*; do
  for test in $($program --list --format terse | sed -n 's/: test$//p' | grep -e '@PART@'); do
    echo "begins $(basename "$program")::$test"
    if timeout 1500 "$program" --exact "$test" --nocapture < /dev/null 2>&1; then
      outcome=passed
    else
      outcome=failed failed=1
    fi
    printf 'row\ttest: %s::%s\t%s\n' "$(basename "$program")" "$test" $outcome
  done
done
echo "VM_RC=$failed"
sync; echo o > /proc/sysrq-trigger; sleep 60
