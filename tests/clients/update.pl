# Updates by Net::DNS: SIG(0) with a BIND key, TSIG with a secret.
#   perl update.pl PORT K….private SECRET
use strict;
use warnings;
use Net::DNS;
use Net::DNS::SEC;

my ($port, $private, $secret) = @ARGV;
my $resolver = Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $port, recurse => 0);
my $public = $private =~ s/\.private$/.key/r;

my %sign = (
    sig0 => sub { $_[0]->sign_sig0($private) },
    tsig => sub {
        $_[0]->sign_tsig(Net::DNS::RR->new(
            name => 'lego.alice.ghost', type => 'TSIG', algorithm => 'hmac-sha256', key => $secret));
    },
);
for my $how (sort keys %sign) {
    my @codes;
    for my $wanted (['nxrrset', 'TXT'], ['yxrrset', 'MX']) {
        my ($kind, $type) = @$wanted;
        my $owner = "$how.dyn.alice.ghost";
        my $update = Net::DNS::Update->new('alice.ghost');
        $update->push(pre => $kind eq 'nxrrset' ? nxrrset("$owner $type") : yxrrset("$owner $type"));
        $update->push(update => rr_add("$owner 60 TXT by-$how"));
        $sign{$how}->($update);
        my $reply = $resolver->send($update) or die "$how: ", $resolver->errorstring;
        if ($how eq 'tsig') {
            $reply->verify($update) or die "$how: ", $reply->verifyerr;
        }
        push @codes, $reply->header->rcode;
    }
    print "$how @codes\n";
}
