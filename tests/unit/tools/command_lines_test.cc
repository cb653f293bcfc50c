// Whole command lines: every shape that the original program and its forks take, and those with Unix sockets and an
// outbound proxy, with what they come to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "command_line.h"
#include "proto/target.h"
#include "tools/flag_values.h"
#include "tools/flags.h"

namespace tunnel::tools {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// What listens where and for what, in few words.
std::string Shape(const net::Config& config) {
  std::string shape;
  for (const net::ListenSpec& spec : config.listen) {
    if (!shape.empty()) shape += ' ';
    switch (spec.kind) {
      case net::ListenKind::kServerTls:
        shape += "wss " + spec.address.ToString() + spec.path;
        break;
      case net::ListenKind::kServerPlain:
        shape += "ws " + spec.address.ToString() + (spec.address.is_unix() ? ":" : "") + spec.path;
        break;
      case net::ListenKind::kUdpForward:
        shape += "udp " + spec.address.ToString() + ">" + proto::ToString(spec.target);
        break;
      case net::ListenKind::kForward:
        shape += "tcp " + spec.address.ToString() + ">" + proto::ToString(spec.target);
        break;
      case net::ListenKind::kReverse:
        shape += "rtcp " + spec.address.ToString() + ">" + proto::ToString(spec.target);
        break;
      case net::ListenKind::kProxy:
        shape += "proxy " + spec.user + (spec.user.empty() ? "" : ":" + spec.password + "@") + spec.address.ToString();
        break;
    }
  }
  if (config.is_server()) {
    if (!config.outbound.has_value()) return shape;
    const net::OutboundProxy& proxy = *config.outbound;
    shape += " out ";
    if (proxy.credentials) shape += proxy.credentials->user + ":" + proxy.credentials->password + "@";
    return shape + (proxy.unix_socket.valid() ? proxy.unix_socket.ToString() : proto::ToString(proxy.address));
  }
  shape += fmt::format(" to {}:{}{} n={}", config.server_host, config.server_port, config.server_path, config.channels);
  for (const core::SocketAddress& ip : config.server_addresses)
    shape += " ip=" + (ip.is_unix() ? ip.ToString() : ip.ip());
  shape += config.fallback ? " open" : " ech=" + config.ech_name;
  return shape;
}

struct Line {
  const char* line;
  const char* shape;
};
void PrintTo(const Line& line, std::ostream* out) { *out << line.line; }

class OriginalLines : public testing::TestWithParam<Line> {};
TEST_P(OriginalLines, WorkUnchanged) { EXPECT_EQ(Shape(Good(GetParam().line)), GetParam().shape); }

INSTANTIATE_TEST_SUITE_P(
    Server, OriginalLines,
    testing::Values(
        Line{"-l wss://0.0.0.0:443/tunnel", "wss 0.0.0.0:443/tunnel"},
        Line{"-l wss://0.0.0.0:8443", "wss 0.0.0.0:8443/"}, Line{"-l wss://0.0.0.0:8443/", "wss 0.0.0.0:8443/"},
        Line{"-l wss://:8443/tunnel", "wss 0.0.0.0:8443/tunnel"},
        Line{"-l wss://[::]:8443/tunnel", "wss [::]:8443/tunnel"},
        Line{"-l wss://0.0.0.0:8443/tunnel -cert cert.pem -key key.pem", "wss 0.0.0.0:8443/tunnel"},
        Line{"-l wss://0.0.0.0:8443/tunnel -token my-secret -cidr 10.0.0.0/8,192.168.0.0/16,fd00::/8",
             "wss 0.0.0.0:8443/tunnel"},
        Line{"-l wss://0.0.0.0:8443/tunnel -cidr 0.0.0.0/0,::/0", "wss 0.0.0.0:8443/tunnel"},
        Line{"--l=wss://0.0.0.0:8443/tunnel --token=my-secret", "wss 0.0.0.0:8443/tunnel"},
        Line{"-l ws://0.0.0.0:8080/tunnel", "ws 0.0.0.0:8080/tunnel"},
        Line{"-l ws://127.0.0.1:8080/tunnel -token my-secret -cidr 127.0.0.1", "ws 127.0.0.1:8080/tunnel"},
        Line{"-l wss://0.0.0.0:8443/tunnel -f socks5://127.0.0.1:1080", "wss 0.0.0.0:8443/tunnel out 127.0.0.1:1080"},
        Line{"-l wss://0.0.0.0:8443/tunnel -f socks5://user:pass@10.0.0.7:1080",
             "wss 0.0.0.0:8443/tunnel out user:pass@10.0.0.7:1080"},
        Line{"-l ws://0.0.0.0:80/t -f socks5://us%40er:p%3Aass@Proxy.example:9050 -token x",
             "ws 0.0.0.0:80/t out us@er:p:ass@proxy.example:9050"},
        Line{"-l ws://0.0.0.0:80/t -f socks5://[2001:db8::1]:1080", "ws 0.0.0.0:80/t out [2001:db8::1]:1080"},
        Line{"-l ws://0.0.0.0:80/t -f SOCKS5://proxy.example", "ws 0.0.0.0:80/t out proxy.example:1080"}));

INSTANTIATE_TEST_SUITE_P(
    Client, OriginalLines,
    testing::Values(
        Line{"-l tcp://127.0.0.1:8080/target.example:80 -f wss://t.example:8443/tunnel",
             "tcp 127.0.0.1:8080>target.example:80 to t.example:8443/tunnel n=3 ech=cloudflare-ech.com"},
        Line{"-l tcp://0.0.0.0:1/a.example:1,127.0.0.1:2/10.0.0.5:22,[::1]:3/[2001:db8::1]:443 -f wss://t.example",
             "tcp 0.0.0.0:1>a.example:1 tcp 127.0.0.1:2>10.0.0.5:22 tcp [::1]:3>[2001:db8::1]:443 to t.example:443/ "
             "n=3 ech=cloudflare-ech.com"},
        Line{"-l tcp://:8080/target.example:80 -f wss://t.example/",
             "tcp 0.0.0.0:8080>target.example:80 to t.example:443/ n=3 ech=cloudflare-ech.com"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example:8443/tunnel -token my-secret",
             "proxy 127.0.0.1:1080 to t.example:8443/tunnel n=3 ech=cloudflare-ech.com"},
        Line{"-l proxy://user:pass@0.0.0.0:1080 -f wss://t.example/tunnel",
             "proxy user:pass@0.0.0.0:1080 to t.example:443/tunnel n=3 ech=cloudflare-ech.com"},
        Line{"-l proxy://:1080 -f wss://t.example/tunnel",
             "proxy 0.0.0.0:1080 to t.example:443/tunnel n=3 ech=cloudflare-ech.com"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example/tunnel -ip 104.16.1.1 -n 5",
             "proxy 127.0.0.1:1080 to t.example:443/tunnel n=5 ip=104.16.1.1 ech=cloudflare-ech.com"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example/tunnel -ip 104.16.1.1,104.16.2.2,2606:4700::1 -n 2",
             "proxy 127.0.0.1:1080 to t.example:443/tunnel n=2 ip=104.16.1.1 ip=104.16.2.2 ip=2606:4700::1 "
             "ech=cloudflare-ech.com"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example/tunnel -dns dns.alidns.com/dns-query -ech "
             "cloudflare-ech.com",
             "proxy 127.0.0.1:1080 to t.example:443/tunnel n=3 ech=cloudflare-ech.com"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example/tunnel -dns https://doh.example/dns-query -ech own.example",
             "proxy 127.0.0.1:1080 to t.example:443/tunnel n=3 ech=own.example"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example/tunnel -fallback",
             "proxy 127.0.0.1:1080 to t.example:443/tunnel n=3 open"},
        Line{"-l proxy://127.0.0.1:1080 -f wss://t.example/tunnel -fallback=true -ech cloudflare-ech.com -dns "
             "dns.alidns.com/dns-query",
             "proxy 127.0.0.1:1080 to t.example:443/tunnel n=3 open"},
        Line{"-l proxy://127.0.0.1:1080 -l tcp://127.0.0.1:1/h.example:1 -f wss://t.example/tunnel -proto legacy",
             "proxy 127.0.0.1:1080 tcp 127.0.0.1:1>h.example:1 to t.example:443/tunnel n=3 ech=cloudflare-ech.com"}));

INSTANTIATE_TEST_SUITE_P(
    UdpForwards, OriginalLines,
    testing::Values(
        Line{"-l udp://127.0.0.1:5353/9.9.9.9:53 -f wss://t.example -fallback",
             "udp 127.0.0.1:5353>9.9.9.9:53 to t.example:443/ n=3 open"},
        Line{"-l UDP://:53/dns.example:53,[::1]:53/[2001:db8::1]:53 -f wss://t.example -fallback",
             "udp 0.0.0.0:53>dns.example:53 udp [::1]:53>[2001:db8::1]:53 to t.example:443/ n=3 open"},
        // The ports of UDP and TCP are not the same ones.
        Line{"-l udp://127.0.0.1:53/h.example:53 -l tcp://127.0.0.1:53/h.example:53 -l proxy://127.0.0.1:1080 "
             "-l udp://127.0.0.1:0/a.example:1,127.0.0.1:0/b.example:2 -f wss://t.example -fallback",
             "udp 127.0.0.1:53>h.example:53 tcp 127.0.0.1:53>h.example:53 proxy 127.0.0.1:1080 "
             "udp 127.0.0.1:0>a.example:1 udp 127.0.0.1:0>b.example:2 to t.example:443/ n=3 open"}));

TEST(CommandLines, UdpForwardsThatAreNone) {
  const std::string client = " -f wss://t.example -fallback";
  EXPECT_EQ(ErrorOf("-l udp://" + client), "-l \"udp://\": expected udp://LISTEN/TARGET[,LISTEN/TARGET...]");
  EXPECT_EQ(ErrorOf("-l udp://127.0.0.1:53" + client),
            "-l \"127.0.0.1:53\": expected udp://LISTEN/TARGET, as 127.0.0.1:5353/9.9.9.9:53");
  EXPECT_EQ(ErrorOf("-l udp://unix:/run/a.sock:/h.example:53" + client),
            "-l \"unix:/run/a.sock:/h.example:53\": expected an address to listen on, ip:port, before the slash");
  EXPECT_EQ(ErrorOf("-l udp://127.0.0.1:53/unix:/run/a.sock" + client),
            "-l \"127.0.0.1:53/unix:/run/a.sock\": expected a target, host:port, after the slash");
  EXPECT_EQ(ErrorOf("-l udp://127.0.0.1:53/h.example:0" + client),
            "-l \"127.0.0.1:53/h.example:0\": expected a target, host:port, after the slash");
  EXPECT_EQ(ErrorOf("-l udp://127.0.0.1:53/h.example:53,127.0.0.1:53/i.example:53" + client),
            "-l \"udp://127.0.0.1:53/i.example:53\": expected an address that nothing else here listens on, and "
            "127.0.0.1:53 is another's");
  EXPECT_EQ(ErrorOf("-l ws://127.0.0.1:1/ -l udp://127.0.0.1:53/h.example:53"),
            "-l \"udp://127.0.0.1:53/h.example:53\": expected a server's listeners (wss://, ws://) or a client's "
            "(proxy://, tcp://, udp://, rtcp://) in one process, not both");
}

INSTANTIATE_TEST_SUITE_P(
    ReverseForwards, OriginalLines,
    testing::Values(
        Line{"-l rtcp://127.0.0.1:8022/127.0.0.1:22 -f wss://t.example -fallback",
             "rtcp 127.0.0.1:8022>127.0.0.1:22 to t.example:443/ n=3 open"},
        Line{"-l RTCP://:0/h.example:53,[::1]:53/[2001:db8::1]:53,localhost:1/unix:/run/a.sock -f wss://t.example "
             "-fallback",
             "rtcp 0.0.0.0:0>h.example:53 rtcp [::1]:53>[2001:db8::1]:53 rtcp 127.0.0.1:1>unix:/run/a.sock "
             "to t.example:443/ n=3 open"},
        // The ports of the server's host are not the ones of this.
        Line{"-l rtcp://127.0.0.1:53/h.example:53 -l tcp://127.0.0.1:53/h.example:53 -f wss://t.example -fallback",
             "rtcp 127.0.0.1:53>h.example:53 tcp 127.0.0.1:53>h.example:53 to t.example:443/ n=3 open"}));

TEST(CommandLines, ReverseForwardsThatAreNone) {
  const std::string client = " -f wss://t.example -fallback";
  EXPECT_EQ(ErrorOf("-l rtcp://" + client), "-l \"rtcp://\": expected rtcp://LISTEN/TARGET[,LISTEN/TARGET...]");
  EXPECT_EQ(ErrorOf("-l rtcp://127.0.0.1:53" + client),
            "-l \"127.0.0.1:53\": expected rtcp://LISTEN/TARGET, as 127.0.0.1:2222/127.0.0.1:22");
  EXPECT_EQ(ErrorOf("-l rtcp://unix:/run/a.sock:/h.example:53" + client),
            "-l \"unix:/run/a.sock:/h.example:53\": expected an address to listen on, ip:port, before the slash");
  EXPECT_EQ(ErrorOf("-l rtcp://h.example:1/h.example:53" + client),
            "-l \"h.example:1/h.example:53\": expected an IP address, localhost or nothing before the port to listen "
            "on");
  EXPECT_EQ(ErrorOf("-l rtcp://127.0.0.1:1/h.example:0" + client),
            "-l \"127.0.0.1:1/h.example:0\": expected a target, host:port, after the slash");
  EXPECT_EQ(ErrorOf("-l rtcp://127.0.0.1:53/a.example:1,127.0.0.1:53/b.example:2" + client),
            "-l \"rtcp://127.0.0.1:53/b.example:2\": expected an address that nothing else here listens on, and "
            "127.0.0.1:53 is another's");
}

INSTANTIATE_TEST_SUITE_P(
    UnixSockets, OriginalLines,
    testing::Values(
        Line{"-l ws://unix:/run/t.sock", "ws unix:/run/t.sock:/"},
        Line{"-l ws://unix:/run/t.sock:", "ws unix:/run/t.sock:/"},
        Line{"-l ws://unix:/run/t.sock:/tunnel", "ws unix:/run/t.sock:/tunnel"},
        Line{"-l wss://unix:/run/t.sock:/a/b -l ws://unix:/run/u.sock",
             "wss unix:/run/t.sock/a/b ws unix:/run/u.sock:/"},
        Line{"-l ws://unix:/t -f socks5://unix:/run/tor/socks", "ws unix:/t:/ out unix:/run/tor/socks"},
        Line{"-l ws://unix:/t -f socks5://u:p%2Fq@unix:/run/p@1", "ws unix:/t:/ out u:p/q@unix:/run/p@1"},
        Line{"-l proxy://unix:/run/p.sock -f wss://t.example -fallback",
             "proxy unix:/run/p.sock to t.example:443/ n=3 open"},
        Line{"-l proxy://u:p@unix:/run/p.sock -f wss://t.example -fallback",
             "proxy u:p@unix:/run/p.sock to t.example:443/ n=3 open"},
        Line{"-l tcp://unix:/run/a.sock:/db.example:5432 -f wss://t.example -fallback",
             "tcp unix:/run/a.sock>db.example:5432 to t.example:443/ n=3 open"},
        Line{"-l tcp://127.0.0.1:22/unix:/run/ssh.sock,unix:/run/a:/unix:/run/b -f wss://t.example -fallback",
             "tcp 127.0.0.1:22>unix:/run/ssh.sock tcp unix:/run/a>unix:/run/b to t.example:443/ n=3 open"},
        Line{"-l proxy://127.0.0.1:1 -f wss://t.example -fallback -ip unix:/run/t.sock,192.0.2.1",
             "proxy 127.0.0.1:1 to t.example:443/ n=3 ip=unix:/run/t.sock ip=192.0.2.1 open"}));

TEST(CommandLines, UnixSocketsThatAreNone) {
  const std::string client = " -f wss://t.example -fallback";
  for (const std::string& line : {
           std::string("-l ws://unix:"),
           std::string("-l ws://unix:run/t.sock"),
           std::string("-l ws://unix:/run/a,b"),
           std::string("-l ws://unix:/run/t.sock:tunnel"),
           std::string("-l ws://unix:/run/t.sock:8080"),
           "-l ws://unix:/" + std::string(107, 'x'),
           "-l proxy://unix:/run/p.sock:/path" + client,
           "-l proxy://u@unix:/run/p.sock" + client,
           "-l tcp://unix:/run/a.sock/db.example:5432" + client,
           "-l tcp://unix:/run/a.sock:db.example:5432" + client,
           "-l tcp://unix:/run/a.sock" + client,
           "-l tcp://unix:/run/a.sock:/" + client,
           "-l tcp://127.0.0.1:1/unix:run" + client,
           "-l tcp://127.0.0.1:1/unix:/a:1" + client,
           "-l proxy://127.0.0.1:1 -ip unix:x" + client,
           std::string("-l ws://unix:/t -f socks5://unix:x"),
           std::string("-l ws://unix:/t -f socks5://unix:/x:/y"),
           std::string("-l ws://unix:/t -l ws://unix:/t:/other"),
       }) {
    EXPECT_FALSE(Parse(line).ok()) << line;
  }
  EXPECT_EQ(
      ErrorOf("-l ws://unix:t"),
      "-l \"ws://unix:t\": expected wss://unix:/socket[:/path], ws://unix:/socket[:/path] or "
      "proxy://[user:password@]unix:/socket with an absolute path of at most 107 visible characters, none of them "
      "a colon, comma, bar or bracket");
  EXPECT_EQ(ErrorOf("-l tcp://unix:/run/a.sock/db.example:5432" + client),
            "-l \"unix:/run/a.sock/db.example:5432\": expected tcp://LISTEN/TARGET, as 127.0.0.1:2222/host:22 or "
            "unix:/socket:/host:22");
  EXPECT_EQ(ErrorOf("-l ws://unix:/t -l ws://unix:/t:/other"),
            "-l \"ws://unix:/t:/other\": expected an address that nothing else here listens on, and unix:/t is "
            "another's");
}

TEST(CommandLines, OutboundProxiesThatAreNone) {
  for (const char* const url :
       {"socks5://", "socks5://:1080", "socks5://h.example:0", "socks5://h.example:1/path", "socks5://u@h.example:1",
        "socks5://a..b:1", "socks4://h.example:1", "http://h.example:1", "socks5h://h.example:1"}) {
    EXPECT_FALSE(Parse(std::string("-l ws://127.0.0.1:1/ -f ") + url).ok()) << url;
  }
  EXPECT_EQ(ErrorOf("-l ws://127.0.0.1:1/ -f http://h.example:1"),
            "-f \"http://h.example:1\": expected wss://host:port/path, or socks5://[user:password@]host:port of a "
            "server");
  EXPECT_EQ(
      ErrorOf("-l proxy://127.0.0.1:1 -f socks5://u:secret@h.example:1"),
      "-f \"socks5://***@h.example:1\" is for a server, and -l \"proxy://127.0.0.1:1\" makes this a client, which "
      "needs wss://host:port/path");
}

TEST(CommandLines, OutboundPasswordsAreNotTold) {
  const std::string line = "-l ws://127.0.0.1:1/ -f socks5://user:S3cr3t@h.example:1080";
  EXPECT_THAT(DescribeConfig(Good(line)),
              testing::AllOf(HasSubstr(" out=socks5://***@h.example:1080"), Not(HasSubstr("S3cr3t"))));
  for (const char* const more : {"/path", "x", " -f x", " -n 3"}) {
    EXPECT_THAT(ErrorOf(line + more), testing::AllOf(Not(HasSubstr("S3cr3t")), Not("(no error)"))) << more;
  }
}

TEST(CommandLines, ChannelsPerSource) {
  EXPECT_EQ(Good("-l ws://127.0.0.1:1/").channels_per_source, 1024U);
  EXPECT_EQ(Good("-l ws://127.0.0.1:1/ -channels-per-source 0").channels_per_source, 0U);
  EXPECT_FALSE(Parse("-l ws://127.0.0.1:1/ -channels-per-source -1").ok());
}

TEST(CommandLines, UnixTargetRules) {
  for (const char* const text : {"unix:/run/a.sock", "unix:/"}) {
    const auto rule = ParseTargetRule(text);
    ASSERT_TRUE(rule.ok()) << text;
    EXPECT_EQ(rule->kind, net::TargetRule::Kind::kUnix);
    EXPECT_EQ(ToString(*rule), text);
  }
  for (const char* const text : {"unix:", "unix:run", "unix:/run/a:80", "unix:/a b"}) {
    EXPECT_FALSE(ParseTargetRule(text).ok()) << text;
  }
}

TEST(CommandLines, ASocketIsNoOpenDoor) {
  EXPECT_THAT(Parse("-l proxy://unix:/run/p.sock -f wss://t.example")->warnings, ElementsAre());
  EXPECT_THAT(Parse("-l ws://unix:/run/t.sock")->warnings, ElementsAre());
}

}  // namespace
}  // namespace tunnel::tools
