# Answers every request with 200, and prints its method, path and webhook-id. For scripts/e2e. Written in Perl, because the image of
# PostgreSQL contains it.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
$SIG{CHLD} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 512, ReuseAddr => 1) or die "8080: $!";
while (1) {
    my $client = $server->accept or next;
    if (fork) { close $client; next }
    while (defined(my $request = <$client>)) {
        my ($id, $length) = ('', 0);
        while (defined(my $header = <$client>)) {
            last if $header =~ /^\r?\n$/;
            $id = $1 if $header =~ /^webhook-id:\s*(\S+)/i;
            $length = $1 if $header =~ /^content-length:\s*(\d+)/i;
        }
        read $client, my $body, $length if $length;
        $request =~ s{ HTTP/.*}{}s;
        print "$request $id\n";
        print $client "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    }
    exit;
}
