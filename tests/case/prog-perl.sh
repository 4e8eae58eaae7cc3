#!/bin/sh
# SPDX-License-Identifier: MIT
# Perl: File::Find, sysopen and flock, tied databases, editing in place, two-way pipes, File::Temp, File::Copy.
. "$(dirname "$0")/lib.sh"

mkdir -p in/a/b in/c
for f in in/1 in/a/2 in/a/b/3 in/c/4; do
	echo "name $f" >$f
done
chmod 600 in/c/4
ln -s ../1 in/a/link

cat >all.pl <<'END'
use strict;
use warnings;
use Fcntl qw(:DEFAULT :flock :seek);
use File::Copy qw(copy move);
use File::Find;
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempfile tempdir);
use IPC::Open2;
use SDBM_File;

make_path("out/x/y");
my @found;
find({wanted => sub { push @found, "$File::Find::name " . (-l $_ ? "link" : -d $_ ? "dir" : -s $_) }, no_chdir => 0}, "in");
print "$_\n" for sort @found;
@found = ();
finddepth(sub { push @found, $_ if -f && /[23]/ }, "in");
print join(",", sort @found), "\n";

sysopen(my $new, "out/lock", O_RDWR | O_CREAT | O_EXCL, 0640) or die "lock: $!";
flock($new, LOCK_EX | LOCK_NB) or die "flock: $!";
print sysopen(my $again, "out/lock", O_RDWR | O_CREAT | O_EXCL) ? "twice\n" : "exists: " . ($!{EEXIST} ? 1 : 0) . "\n";
my $pid = fork // die;
if (!$pid) {
	open(my $other, "+<", "out/lock") or die;
	print flock($other, LOCK_EX | LOCK_NB) ? "not locked\n" : "locked\n";
	exit 0;
}
waitpid $pid, 0;
syswrite $new, "0123456789";
sysseek $new, 3, SEEK_SET;
syswrite $new, "abc";
truncate $new, 8;
close $new;
open(my $read, "<", "out/lock") or die;
print scalar(<$read>), "\n";

tie(my %db, "SDBM_File", "out/db", O_RDWR | O_CREAT, 0644) or die "tie: $!";
$db{$_} = $_ * $_ for 1 .. 200;
delete $db{$_} for grep { $_ % 3 == 0 } 1 .. 200;
untie %db;
tie(%db, "SDBM_File", "out/db", O_RDONLY, 0644) or die "tie: $!";
my $sum = 0;
$sum += $_ for values %db;
print scalar(keys %db), " $sum\n";
untie %db;

my ($fh, $name) = tempfile(DIR => "out", UNLINK => 1);
print $fh "temporary";
close $fh;
copy($name, "out/x/copy") or die;
move("out/x/copy", "out/x/y/moved") or die;
my $dir = tempdir(DIR => "out", CLEANUP => 1);
open(my $t, ">", "$dir/inside") or die;
close $t;

$pid = open2(my $from, my $to, "tr a-z A-Z");
print $to "through a pipe\n";
close $to;
print <$from>;
waitpid $pid, 0;
open(my $null, ">>", "out/appended") or die;
print $null "$_\n" for 1 .. 1000;
close $null;
utime 1000000000, 1000000000, "out/appended";
print +(stat "out/appended")[7, 9], "\n";
rename "out/appended", "out/x/renamed" or die;
chmod 0400, "out/x/renamed";
symlink "renamed", "out/x/soft" or die;
link "out/x/renamed", "out/hard" or die;
print +(stat "out/hard")[3], " ", readlink("out/x/soft"), "\n";
opendir(my $d, "out/x") or die;
print join(",", sort grep { !/^\./ } readdir $d), "\n";
remove_tree("out/x/y");
END
cat >all.sh <<'END'
set -e
perl all.pl
cp in/1 in/a/2 out/
perl -pi.orig -e 's/name/NAME/' out/1 out/2
perl -i -ne 'print unless /4$/' out/2
cat out/1 out/1.orig out/2
END
like_native all.sh out
same "$(perl -MSDBM_File -MFcntl -e 'tie(my %d, "SDBM_File", "out/db", O_RDONLY, 0644) or die; print $d{7}')" 49 "the restored database"
