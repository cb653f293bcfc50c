#include "tools/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "command_line.h"
#include "ech/key_store.h"
#include "ech/pem.h"
#include "proto/base64.h"
#include "tools/flag_table.h"
#include "tools/flag_values.h"

namespace tunnel::tools {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string ConfigListBase64() {
  const auto key = ech::GenerateKey("public.example", 64, {}, std::chrono::system_clock::now());
  EXPECT_TRUE(key.ok());
  return proto::Base64Encode(key->ConfigListBytes());
}

// The smallest command lines that are complete.
const std::string kClient = "-l proxy://127.0.0.1:1080 -f wss://t.example/p ";
const std::string kServer = "-l wss://127.0.0.1:443/p ";

struct BadLine {
  std::string line;
  std::string error;
};

void PrintTo(const BadLine& bad, std::ostream* out) { *out << bad.line; }

class Refused : public testing::TestWithParam<BadLine> {};

TEST_P(Refused, WithOneExactLine) { EXPECT_EQ(ErrorOf(GetParam().line), GetParam().error) << GetParam().line; }

INSTANTIATE_TEST_SUITE_P(
    Syntax, Refused,
    testing::ValuesIn(std::vector<BadLine>{
        {"",
         "-l is missing: expected what to listen on, as wss://0.0.0.0:443/path or proxy://127.0.0.1:1080 (-h has "
         "examples)"},
        {"-tokne x", "unknown flag -tokne (did you mean -token?)"},
        {"--fallbck", "unknown flag -fallbck (did you mean -fallback?)"},
        {"-L ws://:1/", "unknown flag -L (did you mean -l?)"},
        {"-x", "unknown flag -x; -h lists the flags"},
        {"-quux=1", "unknown flag -quux; -h lists the flags"},
        {"---l x", "unknown flag --l; -h lists the flags"},
        {"-n", "-n needs a value: expected -n NUMBER"},
        {"-token", "-token needs a value: expected -token TEXT"},
        {"-l -token=secret", "-l needs a value: expected -l URL"},
        {"-n --fallback", "-n needs a value: expected -n NUMBER"},
        {"- -n 3", "unexpected argument \"-\": flags begin with -"},
        {"-- -n 3", "unexpected argument \"--\": flags begin with -"},
        {"-n 3 4", "unexpected argument \"4\" after the value of -n: flags begin with -"},
        {"-fallback false", "unexpected argument \"false\" after -fallback, which takes its value as -fallback=false"},
        {"-fallback=maybe", "-fallback \"maybe\": expected true or false"},
        {"-token two words", "-token takes one value, and another argument follows it (not shown)"},
        {"-n 3 -n 4", "-n is given twice"},
        {"-token=a --token b", "-token is given twice"},
        {"-require-ech -require-ech=false", "-require-ech is given twice"},
    }));

INSTANTIATE_TEST_SUITE_P(
    Listeners, Refused,
    testing::ValuesIn(std::vector<BadLine>{
        {"-l=",
         "-l \"\": expected wss://ip:port/path, ws://ip:port/path, tcp://LISTEN/TARGET, udp://LISTEN/TARGET, "
         "rtcp://LISTEN/TARGET or proxy://ip:port"},
        {"-l 127.0.0.1:1080",
         "-l \"127.0.0.1:1080\": expected wss://ip:port/path, ws://ip:port/path, tcp://LISTEN/TARGET, "
         "udp://LISTEN/TARGET, rtcp://LISTEN/TARGET or proxy://ip:port"},
        {"-l http://127.0.0.1:1080",
         "-l \"http://127.0.0.1:1080\": expected wss://ip:port/path, ws://ip:port/path, tcp://LISTEN/TARGET, "
         "udp://LISTEN/TARGET, rtcp://LISTEN/TARGET or proxy://ip:port"},
        {"-l wss://0.0.0.0/p", "-l \"wss://0.0.0.0/p\": expected a port to listen on"},
        {"-l wss://h.example:443/p",
         "-l \"wss://h.example:443/p\": expected an IP address, localhost or nothing before the port to listen on"},
        {"-l wss://u:P4ssw0rd@127.0.0.1:1/",
         "-l \"wss://***@127.0.0.1:1/\": expected no user or password; clients are told apart by -token"},
        {"-l ws://127.0.0.1:1/p?q", "-l \"ws://127.0.0.1:1/p?q\": expected a path without a query"},
        {"-l proxy://127.0.0.1:1/p",
         "-l \"proxy://127.0.0.1:1/p\": expected proxy://[user:password@]ip:port, without a path"},
        {"-l proxy://u@127.0.0.1:1", "-l \"proxy://***@127.0.0.1:1\": expected a password, as user:password@"},
        {"-l proxy://a%3Ab:c@127.0.0.1:1",
         "-l \"proxy://***@127.0.0.1:1\": expected a user (without a colon) and a password of at most 255 bytes, "
         "without "
         "control characters"},
        {"-l tcp://", "-l \"tcp://\": expected tcp://LISTEN/TARGET[,LISTEN/TARGET...]"},
        {"-l tcp://127.0.0.1:1", "-l \"127.0.0.1:1\": expected tcp://LISTEN/TARGET, as 127.0.0.1:2222/host:22"},
        {"-l tcp://127.0.0.1:1/h:2,", "-l \"tcp://127.0.0.1:1/h:2,\": expected tcp://LISTEN/TARGET[,LISTEN/TARGET...]"},
        {"-l tcp://127.0.0.1/h:2", "-l \"127.0.0.1/h:2\": expected an address to listen on, ip:port, before the slash"},
        {"-l tcp://127.0.0.1:1/h", "-l \"127.0.0.1:1/h\": expected a target, host:port, after the slash"},
        {"-l tcp://127.0.0.1:1/h:0", "-l \"127.0.0.1:1/h:0\": expected a target, host:port, after the slash"},
        {"-l tcp://127.0.0.1:1/::1:22", "-l \"127.0.0.1:1/::1:22\": expected a target, host:port, after the slash"},
        {"-l tcp://me:1/h:2",
         "-l \"me:1/h:2\": expected an IP address, localhost or nothing before the port to listen on"},
        {"-l wss://127.0.0.1:1/ -l proxy://127.0.0.1:2",
         "-l \"proxy://127.0.0.1:2\": expected a server's listeners (wss://, ws://) or a client's (proxy://, tcp://, "
         "udp://, rtcp://) in one process, not both"},
        {"-l ws://127.0.0.1:1/a -l ws://127.0.0.1:1/b",
         "-l \"ws://127.0.0.1:1/b\": expected an address that nothing else here listens on, and 127.0.0.1:1 is "
         "another's"},
    }));

INSTANTIATE_TEST_SUITE_P(
    Client, Refused,
    testing::ValuesIn(std::vector<BadLine>{
        {"-l proxy://127.0.0.1:1",
         "-f is missing: expected the server, as wss://host:port/path, which every client needs"},
        {kClient + "-f wss://b.example/", "-f is given twice"},
        {"-f t.example",
         "-f \"t.example\": expected wss://host:port/path, or socks5://[user:password@]host:port of a server"},
        {"-f ws://t.example/",
         "-f \"ws://t.example/\": expected wss://host:port/path, or socks5://[user:password@]host:port of a server"},
        {"-f wss://t.example:0/",
         "-f \"wss://t.example:0/\" is not a URL of the form wss://host:port/path: the port must be a number from 1 to "
         "65535"},
        {"-f wss://u:P4ssw0rd@t.example/",
         "-f \"wss://***@t.example/\": expected no user or password; the secret goes into -token"},
        {"-f wss://a..b/", "-f \"wss://a..b/\": expected the host to be a domain name or an IP address"},
        {"-l proxy://127.0.0.1:1080 -f socks5://u:P4ssw0rd@127.0.0.1:1080",
         "-f \"socks5://***@127.0.0.1:1080\" is for a server, and -l \"proxy://127.0.0.1:1080\" makes this a client, "
         "which needs wss://host:port/path"},
        {kClient + "-ip 1.2.3", "-ip \"1.2.3\": expected an IP address without a port"},
        {kClient + "-ip 1.2.3.4,", "-ip \"1.2.3.4,\": expected something on both sides of every comma"},
        {kClient + "-ip 1.2.3.4:443", "-ip \"1.2.3.4:443\": expected an IP address without a port"},
        {kClient + "-ip [1.2.3.4]", "-ip \"[1.2.3.4]\": expected an IP address without a port"},
        {kClient + "-n 0", "-n \"0\": expected a number from 1 to 256"},
        {kClient + "-n 257", "-n \"257\": expected a number from 1 to 256"},
        {kClient + "-n 03", "-n \"03\": expected a number from 1 to 256"},
        {kClient + "-n 99999999999999999999", "-n \"99999999999999999999\": expected a number from 1 to 256"},
        {kClient + "-n -3", "-n \"-3\": expected a number from 1 to 256"},
        {kClient + "-dns http://d.example/q", "-dns \"http://d.example/q\": expected https://host:port/path"},
        {kClient + "-dns=", "-dns \"\": expected a value"},
        {kClient + "-ech -x", "-ech \"-x\": expected a domain name, or auto for the host of -f"},
        {kClient + "-ech a..b", "-ech \"a..b\": expected a domain name, or auto for the host of -f"},
        {"-l proxy://127.0.0.1:1 -f wss://192.0.2.1/ -ech auto",
         "-ech \"auto\": expected a name in -f, and 192.0.2.1 is an address; give -ech NAME or -ech-config"},
        {kClient + "-ech-config @none",
         "-ech-config \"@none\": expected a file that can be read: none: No such file or directory"},
        {kClient + "-ca none.pem", "-ca \"none.pem\": expected a PEM file that can be read: No such file or directory"},
        {kClient + "-pin 00",
         "-pin \"00\": expected the SHA-256 of a public key, as 64 hex digits or 44 characters of base64"},
        {kClient + "-proto nativ", "-proto \"nativ\": expected auto, native or legacy"},
        {kClient + "-proto x", "-proto \"x\": expected auto, native or legacy"},
        {kClient + "-cidr 10.0.0.0/8", "-cidr is for a server, and -l \"proxy://127.0.0.1:1080\" makes this a client"},
        {kClient + "-serve-dns", "-serve-dns is for a server, and -l \"proxy://127.0.0.1:1080\" makes this a client"},
    }));

INSTANTIATE_TEST_SUITE_P(
    Server, Refused,
    testing::ValuesIn(std::vector<BadLine>{
        {kServer + "-f wss://t.example/",
         "-f wss:// is for a client, and -l \"wss://127.0.0.1:443/p\" makes this a server, which goes out through "
         "socks5://host:port"},
        {kServer + "-fallback", "-fallback is for a client, and -l \"wss://127.0.0.1:443/p\" makes this a server"},
        {kServer + "-cidr 10.0.0.0/33",
         "-cidr \"10.0.0.0/33\": expected an address or a range, as 10.0.0.0/8 or fd00::/8"},
        {kServer + "-cert cert.pem", "-cert is given without -key: expected both or neither"},
        {kServer + "-key key.pem", "-key is given without -cert: expected both or neither"},
        {kServer + "-cert no.pem -key key.pem",
         "-cert \"no.pem\": expected a PEM file that can be read: No such file or directory"},
        {kServer + "-cert=", "-cert \"\": expected the name of a PEM file"},
        {kServer + "-ech-keys=", "-ech-keys \"\": expected the name of a directory"},
        {kServer + "-ech-public-name a_b", "-ech-public-name \"a_b\": expected a host name"},
        {kServer + "-name a,b..c", "-name \"b..c\": expected a domain name or an IP address"},
        {"-l ws://127.0.0.1:1/ -require-ech",
         "-require-ech and a ws:// listener contradict each other: without TLS there is no ECH"},
        {kServer + "-allow-target ::1",
         "-allow-target \"::1\": expected IPv6 in brackets, as [::1], [::1]:443 or [fd00::]/8"},
        {kServer + "-allow-reverse 127.0.0.1",
         "-allow-reverse \"127.0.0.1\": expected a range or an address with the ports that may be listened on, as "
         "127.0.0.0/8:8000-9000, [::1]:2222 or 0.0.0.0:*"},
        {kClient + "-allow-reverse 127.0.0.1:1",
         "-allow-reverse is for a server, and -l \"proxy://127.0.0.1:1080\" makes this a client"},
        {"-l rtcp://127.0.0.1:1/h:2 -f wss://t.example -proto legacy",
         "-proto legacy and an rtcp:// listener contradict each other: the legacy protocol has no reverse forwards, "
         "which need auto or native"},
        {kServer + "-deny-target a.example:0",
         "-deny-target \"a.example:0\": expected a port, first-last (1 to 65535) or * after the colon"},
        {kServer + "-deny-target a.example:90-80",
         "-deny-target \"a.example:90-80\": expected a port, first-last (1 to 65535) or * after the colon"},
        {kServer + "-deny-target 10.0.0.0/8,1.2.3",
         "-deny-target \"1.2.3\": expected a range such as 10.0.0.0/8 or [fd00::]/8, an address, a name, *.suffix or "
         "*, "
         "with :port or :first-last where not every port is meant"},
        {kServer + "-token=",
         "-token (not shown): expected 1 to 1024 visible ASCII characters without spaces; it is "
         "empty"},
        {kServer + "-token S\xc3\xa9",
         "-token (not shown): expected 1 to 1024 visible ASCII characters without spaces"},
        {kServer + "-state=", "-state \"\": expected the name of a directory"},
    }));

INSTANTIATE_TEST_SUITE_P(
    Process, Refused,
    testing::ValuesIn(std::vector<BadLine>{
        {kServer + "-backend kqueue", "-backend \"kqueue\": expected auto, io_uring or epoll"},
        {kServer + "-threads 1025", "-threads \"1025\": expected a number from 1 to 1024"},
        {kServer + "-disable-feature multishot-recieve",
         "-disable-feature \"multishot-recieve\": expected one of single-issuer, registered-ring, multishot-accept, "
         "multishot-receive, multishot-datagrams, udp-gso, udp-gro (did you mean multishot-receive?)"},
        {kServer + "-congestion nice",
         "-congestion \"nice\": expected a congestion control that this system has, as "
         "/proc/sys/net/ipv4/tcp_available_congestion_control lists them"},
        {kServer + "-log-level loud", "-log-level \"loud\": expected error, warn, info, debug or trace"},
        {kServer + "-log-format xml", "-log-format \"xml\": expected text or json"},
    }));

TEST(Flags, ClientDefaults) {
  const net::Config config = Good(kClient);
  EXPECT_FALSE(config.is_server());
  EXPECT_EQ(config.server_host, "t.example");
  EXPECT_EQ(config.server_port, 443);
  EXPECT_EQ(config.server_path, "/p");
  EXPECT_EQ(config.channels, 3U);
  EXPECT_THAT(config.doh_urls, ElementsAre("https://dns.alidns.com/dns-query"));
  EXPECT_EQ(config.ech_name, "cloudflare-ech.com");
  EXPECT_THAT(config.ech_config_list, IsEmpty());
  EXPECT_FALSE(config.fallback);
  EXPECT_EQ(config.protocol, net::Protocol::kAuto);
  EXPECT_THAT(config.token, IsEmpty());
  EXPECT_EQ(config.state_directory, "/home/u/.local/state/ech-tunnel");
  EXPECT_EQ(config.threads, 0U);
  EXPECT_EQ(config.log_level, "info");
  EXPECT_EQ(config.reactor.backend, core::BackendChoice::kAuto);
}

TEST(Flags, ClientInFull) {
  FakeSurroundings surroundings;
  const net::Config config = Good(
      "--l=proxy://us%40er:pa%3Ass@[::1]:1080 -l tcp://:2222/h.example:22,localhost:0/[2001:db8::1]:80 "
      "-f wss://T.example:8443/p?x=1 -ip 192.0.2.1,[2001:db8::2],2001:db8::3 -n 7 -token abc,/= "
      "-dns d.example/dns-query,https://192.0.2.53:8443/q,[2001:db8::4] -ech AUTO -ca ca.pem "
      "-pin BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD "
      "-pin=ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0= -proto legacy -state s -backend epoll -threads 2 "
      "-disable-feature single-issuer,multishot-accept,udp-gro -congestion bbr -log-level debug -log-format json",
      surroundings);
  ASSERT_EQ(config.listen.size(), 3U);
  EXPECT_EQ(config.listen[0].kind, net::ListenKind::kProxy);
  EXPECT_EQ(config.listen[0].address.ToString(), "[::1]:1080");
  EXPECT_EQ(config.listen[0].user, "us@er");
  EXPECT_EQ(config.listen[0].password, "pa:ss");
  EXPECT_EQ(config.listen[0].description, "proxy://***@[::1]:1080");
  EXPECT_EQ(config.listen[1].kind, net::ListenKind::kForward);
  EXPECT_EQ(config.listen[1].address.ToString(), "0.0.0.0:2222");
  EXPECT_EQ(config.listen[1].target, (proto::Target{.host = "h.example", .port = 22}));
  EXPECT_EQ(config.listen[1].description, "tcp://:2222/h.example:22");
  EXPECT_EQ(config.listen[2].address.ToString(), "127.0.0.1:0");
  EXPECT_EQ(config.listen[2].target, (proto::Target{.host = "2001:db8::1", .port = 80}));
  EXPECT_EQ(config.server_host, "t.example");
  EXPECT_EQ(config.server_port, 8443);
  EXPECT_EQ(config.server_path, "/p?x=1");
  ASSERT_EQ(config.server_addresses.size(), 3U);
  EXPECT_EQ(config.server_addresses[1].ip(), "2001:db8::2");
  EXPECT_EQ(config.channels, 7U);
  EXPECT_EQ(config.token, "abc,/=");
  EXPECT_THAT(config.doh_urls, ElementsAre("https://d.example/dns-query", "https://192.0.2.53:8443/q",
                                           "https://[2001:db8::4]/dns-query"));
  EXPECT_EQ(config.ech_name, "t.example");
  EXPECT_EQ(config.ca_file, "ca.pem");
  ASSERT_EQ(config.pins.size(), 2U);
  EXPECT_EQ(config.pins[0].size(), 32U);
  EXPECT_EQ(config.pins[0], config.pins[1]);
  EXPECT_EQ(config.protocol, net::Protocol::kLegacy);
  EXPECT_EQ(config.state_directory, "s");
  EXPECT_EQ(config.reactor.backend, core::BackendChoice::kEpoll);
  EXPECT_EQ(config.threads, 2U);
  EXPECT_THAT(config.reactor.backend_options.disabled_features,
              ElementsAre("single-issuer", "multishot-accept", "udp-gro"));
  EXPECT_EQ(config.reactor.congestion_control, "bbr");
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_EQ(config.log_format, core::LogFormat::kJson);
}

TEST(Flags, ServerDefaults) {
  const net::Config config = Good("-l wss://:8443");
  EXPECT_TRUE(config.is_server());
  EXPECT_EQ(config.listen[0].kind, net::ListenKind::kServerTls);
  EXPECT_EQ(config.listen[0].address.ToString(), "0.0.0.0:8443");
  EXPECT_EQ(config.listen[0].path, "/");
  ASSERT_EQ(config.admitted.size(), 2U);
  EXPECT_EQ(proto::ToString(config.admitted[0]), "0.0.0.0/0");
  EXPECT_EQ(proto::ToString(config.admitted[1]), "::/0");
  EXPECT_EQ(config.ech_public_name, "gateway.example.org");
  EXPECT_EQ(config.ech_key_directory, "/home/u/.local/state/ech-tunnel/ech");
  EXPECT_THAT(config.names, IsEmpty());
  EXPECT_THAT(config.allow_target, IsEmpty());
  EXPECT_THAT(config.deny_target, IsEmpty());
}

TEST(Flags, ServerInFull) {
  const net::Config config = Good(
      "-l wss://[::]:443/a -l ws://127.0.0.1:8080/b -cidr 10.0.0.0/8,fd00::/8,192.0.2.7 -cert cert.pem -key key.pem "
      "-ech-keys keys -ech-public-name WWW.example.com -name T.example,192.0.2.9 -serve-dns -require-ech=0 "
      "-allow-target *.Example.org:443 -allow-target 127.0.0.1:80-90,[fd00::]/8:22 -deny-target *");
  ASSERT_EQ(config.listen.size(), 2U);
  EXPECT_EQ(config.listen[1].kind, net::ListenKind::kServerPlain);
  EXPECT_EQ(config.listen[1].path, "/b");
  EXPECT_EQ(config.admitted.size(), 3U);
  EXPECT_EQ(config.certificate_file, "cert.pem");
  EXPECT_EQ(config.key_file, "key.pem");
  EXPECT_EQ(config.ech_key_directory, "keys");
  EXPECT_EQ(config.ech_public_name, "www.example.com");
  EXPECT_THAT(config.names, ElementsAre("t.example", "192.0.2.9"));
  EXPECT_TRUE(config.serve_dns);
  EXPECT_FALSE(config.require_ech);
  ASSERT_EQ(config.allow_target.size(), 3U);
  EXPECT_EQ(config.allow_target[0].kind, net::TargetRule::Kind::kSuffix);
  EXPECT_EQ(config.allow_target[0].name, "example.org");
  EXPECT_EQ(config.allow_target[0].first_port, 443);
  EXPECT_EQ(config.allow_target[0].last_port, 443);
  EXPECT_EQ(config.allow_target[1].kind, net::TargetRule::Kind::kNetwork);
  EXPECT_EQ(config.allow_target[1].first_port, 80);
  EXPECT_EQ(config.allow_target[1].last_port, 90);
  EXPECT_EQ(ToString(config.allow_target[2]), "[fd00::]/8:22");
  ASSERT_EQ(config.deny_target.size(), 1U);
  EXPECT_EQ(config.deny_target[0].kind, net::TargetRule::Kind::kAny);
}

TEST(Flags, PublicNameIsLocalhostOnLoopbackAndWhereTheHostHasNoGoodName) {
  EXPECT_EQ(Good("-l wss://127.0.0.1:443 -l wss://[::1]:443").ech_public_name, "localhost");
  EXPECT_EQ(Good("-l wss://127.0.0.1:443 -l wss://0.0.0.0:444").ech_public_name, "gateway.example.org");
  FakeSurroundings surroundings;
  for (const char* const name : {"", "my_host", "10.0.0.1", "a..b"}) {
    surroundings.host_name = name;
    EXPECT_EQ(Good("-l wss://0.0.0.0:443", surroundings).ech_public_name, "localhost") << name;
  }
}

TEST(Flags, StateDirectoryByTheEnvironment) {
  FakeSurroundings surroundings;
  surroundings.variable["XDG_STATE_HOME"] = "relative";
  EXPECT_EQ(Good(kServer, surroundings).state_directory, "/home/u/.local/state/ech-tunnel");
  surroundings.variable["XDG_STATE_HOME"] = "/xdg";
  EXPECT_EQ(Good(kServer, surroundings).state_directory, "/xdg/ech-tunnel");
  surroundings.variable["STATE_DIRECTORY"] = "/var/lib/a:/var/lib/b";
  EXPECT_EQ(Good(kServer, surroundings).state_directory, "/var/lib/a");
  EXPECT_EQ(Good(kServer + "-state here", surroundings).state_directory, "here");

  surroundings.variable.clear();
  EXPECT_EQ(ErrorOf(kServer, surroundings),
            "-state is missing: expected a directory to keep keys in, since none of $STATE_DIRECTORY, $XDG_STATE_HOME "
            "and $HOME says where");
  EXPECT_EQ(Good(kClient, surroundings).state_directory, "");
  EXPECT_EQ(Good("-l ws://127.0.0.1:80/", surroundings).state_directory, "");
  EXPECT_EQ(Good(kServer + "-cert cert.pem -key key.pem -ech-keys keys", surroundings).state_directory, "");
}

TEST(Flags, EchConfigIsBase64OrAFile) {
  const std::string base64 = ConfigListBase64();
  FakeSurroundings surroundings;
  surroundings.files["list.txt"] = base64 + "\n";
  const net::Config given = Good(kClient + "-ech-config " + base64);
  EXPECT_EQ(proto::Base64Encode(std::vector<uint8_t>(given.ech_config_list.begin(), given.ech_config_list.end())),
            base64);
  EXPECT_EQ(given.ech_name, "");
  EXPECT_EQ(Good(kClient + "-ech-config @list.txt", surroundings).ech_config_list, given.ech_config_list);

  EXPECT_EQ(ErrorOf(kClient + "-fallback -ech-config " + base64),
            "-ech-config and -fallback contradict each other: with a config ECH is used, with fallback it is not");
  EXPECT_EQ(ErrorOf(kClient + "-ech a.example -ech-config " + base64),
            "-ech-config and -ech contradict each other: the config is either given or looked up");
  EXPECT_THAT(ErrorOf(kClient + "-ech-config !"),
              HasSubstr("-ech-config \"!\": expected an ECHConfigList in base64, or @file: "));
  EXPECT_THAT(ErrorOf(kClient + "-ech-config AAD+DQ=="),
              HasSubstr("-ech-config \"AAD+DQ==\": expected an ECHConfigList that can be used: "));
}

TEST(Flags, FallbackTurnsTheLookupOffAndSaysSo) {
  const absl::StatusOr<CommandLine> parsed = Parse(kClient + "-fallback -ech cloudflare-ech.com");
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->config.fallback);
  EXPECT_EQ(parsed->config.ech_name, "");
  EXPECT_THAT(parsed->warnings,
              ElementsAre("-fallback: connections are made WITHOUT ECH, and t.example can be seen on the wire"));
}

TEST(Flags, WarnsOfWhatIsOpenToEveryone) {
  EXPECT_THAT(Parse("-l wss://0.0.0.0:443")->warnings,
              ElementsAre("there is no -token: whoever reaches this server can use it"));
  EXPECT_THAT(Parse("-l proxy://0.0.0.0:1080 -f wss://t.example")->warnings,
              ElementsAre("proxy://0.0.0.0:1080 asks for no password: whoever reaches it uses the tunnel"));
  EXPECT_THAT(Parse("-l wss://0.0.0.0:443 -token x")->warnings, IsEmpty());
  EXPECT_THAT(Parse("-l proxy://u:p@0.0.0.0:1080 -f wss://t.example")->warnings, IsEmpty());
}

TEST(Flags, EnvironmentBeatsDefaultsAndCommandLineBeatsEnvironment) {
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_TOKEN"] = "from-environment";
  surroundings.variable["ECH_TUNNEL_N"] = "5";
  surroundings.variable["ECH_TUNNEL_ECH"] = "e.example";
  surroundings.variable["ECH_TUNNEL_FALLBACK"] = "true";
  surroundings.variable["ECH_TUNNEL_PROTO"] = "";
  net::Config config = Good(kClient, surroundings);
  EXPECT_EQ(config.token, "from-environment");
  EXPECT_EQ(config.channels, 5U);
  EXPECT_TRUE(config.fallback);
  config = Good(kClient + "-n 2 -token from-flag -fallback=false", surroundings);
  EXPECT_EQ(config.token, "from-flag");
  EXPECT_EQ(config.channels, 2U);
  EXPECT_FALSE(config.fallback);
  EXPECT_EQ(config.ech_name, "e.example");
}

TEST(Flags, EnvironmentAlone) {
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_L"] = "proxy://127.0.0.1:1080\n tcp://127.0.0.1:1/h:2";
  surroundings.variable["ECH_TUNNEL_F"] = "wss://t.example/";
  EXPECT_EQ(Good("", surroundings).listen.size(), 2U);
  EXPECT_EQ(Good("-l proxy://127.0.0.1:9", surroundings).listen.size(), 1U);
}

TEST(Flags, EnvironmentErrorsNameTheVariable) {
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_N"] = "many";
  EXPECT_EQ(ErrorOf(kClient, surroundings), "ECH_TUNNEL_N \"many\": expected a number from 1 to 256");
  EXPECT_EQ(ErrorOf(kServer, surroundings), "ECH_TUNNEL_N \"many\": expected a number from 1 to 256");
  surroundings.variable["ECH_TUNNEL_N"] = "3";
  EXPECT_EQ(ErrorOf(kServer, surroundings),
            "ECH_TUNNEL_N is for a client, and -l \"wss://127.0.0.1:443/p\" makes this a server");
  surroundings.variable["ECH_TUNNEL_FALLBACK"] = "on";
  EXPECT_EQ(ErrorOf(kClient, surroundings), "ECH_TUNNEL_FALLBACK \"on\": expected true or false");
}

TEST(Flags, UnknownVariablesAreWarnedOf) {
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_TOKN"] = kSecret;
  const absl::StatusOr<CommandLine> parsed = Parse(kServer, surroundings);
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(parsed->warnings, ElementsAre("the environment has ECH_TUNNEL_TOKN, which means nothing here (did you "
                                            "mean ECH_TUNNEL_TOKEN?)"));
}

TEST(Flags, BooleansInGoSpelling) {
  for (const char* const yes : {"-fallback", "--fallback", "-fallback=1", "-fallback=T", "-fallback=TRUE"}) {
    EXPECT_TRUE(Good(kClient + yes).fallback) << yes;
  }
  for (const char* const no : {"-fallback=0", "--fallback=f", "-fallback=False"}) {
    EXPECT_FALSE(Good(kClient + no).fallback) << no;
  }
}

TEST(Flags, HelpAndVersionNeedNothingElse) {
  EXPECT_EQ(Parse("-h")->action, Action::kHelp);
  EXPECT_EQ(Parse("--help -n 3")->action, Action::kHelp);
  EXPECT_EQ(Parse("-l nonsense -h")->action, Action::kHelp);
  EXPECT_EQ(Parse("-version")->action, Action::kVersion);
  EXPECT_EQ(Parse("-h=false -version")->action, Action::kVersion);
}

TEST(Flags, SecretsAreInNoMessage) {
  // S and P stand for the token and the password.
  for (const char* const line : {
           "-l wss://127.0.0.1:1 -token S\x01",
           "-l wss://127.0.0.1:1 -token S S",
           "-l wss://127.0.0.1:1 -token=S -token=S",
           "-tokne=S",
           "-tokne S",
           "-l -token S",
           "-l --token=S",
           "-token -token S",
           "-fallback -token S",
           "-l proxy://u:P@127.0.0.1",
           "-l proxy://u:P@127.0.0.1:1/x",
           "-l prxy://u:P@127.0.0.1:1",
           "-l u:P@127.0.0.1:1",
           "-l u:P@://x",
           "-l tcp://u:P@127.0.0.1:1/h:2",
           "-l tcp://127.0.0.1:1/u:P@h:2",
           "-l proxy://u:P@x@127.0.0.1:1",
           "-l proxy://u:P%zz@127.0.0.1:1",
           "-l proxy://u:P@h.example:1",
           "-l proxy://u:P@127.0.0.1:1",
           "-l proxy://u:P@127.0.0.1:1 -cidr 10.0.0.0/8",
           "-l proxy://u:P@127.0.0.1:1 -l proxy://u:P@127.0.0.1:1",
           "-l wss://127.0.0.1:1 -l proxy://u:P@127.0.0.1:1",
           "-f wss://u:P@t.example",
           "-f u:P@wss://t.example",
           "-dns https://u:P@d.example",
           "-dns u:P@d.example,",
       }) {
    std::string filled;
    for (const char* c = line; *c != '\0'; ++c) {
      if (*c == 'S') {
        filled += kSecret;
      } else if (*c == 'P') {
        filled += kPassword;
      } else {
        filled += *c;
      }
    }
    EXPECT_THAT(ErrorOf(filled), AllOf(Not(HasSubstr(kSecret)), Not(HasSubstr(kPassword)), Not("(no error)"))) << line;
  }
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_TOKEN"] = fmt::format("{} ", kSecret);
  EXPECT_EQ(ErrorOf(kServer, surroundings),
            "ECH_TUNNEL_TOKEN (not shown): expected 1 to 1024 visible ASCII characters without spaces");
}

TEST(Flags, MessagesAreOneLine) {
  const FakeSurroundings surroundings;
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{{"-n", "3\n4"},
                                                                                    {"-l", "tcp://a\nb/c"},
                                                                                    {"-\n"},
                                                                                    {"-ech-config", "@a\nb"},
                                                                                    {"x\r\ny"},
                                                                                    {"-f", "wss://\x1b[2J"}}) {
    const absl::StatusOr<CommandLine> parsed = ParseCommandLine(args, surroundings);
    ASSERT_FALSE(parsed.ok());
    for (const char c : MessageOf(parsed.status())) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
  }
}

TEST(Flags, LongValuesAreCut) {
  const std::string error = ErrorOf(kClient + "-ip " + std::string(100000, '9'));
  EXPECT_LT(error.size(), 200U);
  EXPECT_THAT(error, HasSubstr("999...\": expected an IP address"));
}

TEST(Durations, ReadAndPrinted) {
  using std::chrono::seconds;
  const std::pair<const char*, seconds> good[] = {
      {"off", seconds(0)},      {"0", seconds(0)},         {"0s", seconds(0)},      {"30s", seconds(30)},
      {"90m", seconds(5400)},   {"24h", seconds(86400)},   {"7d", seconds(604800)}, {"1h30m", seconds(5400)},
      {"1d1s", seconds(86401)}, {"1h1m1s", seconds(3661)},
  };
  for (const auto& [text, meant] : good) {
    const auto parsed = ParseDuration(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    EXPECT_EQ(*parsed, meant) << text;
    EXPECT_EQ(*ParseDuration(ToString(*parsed)), meant) << "as it is printed";
  }
  EXPECT_EQ(ToString(seconds(86400)), "24h");
  EXPECT_EQ(ToString(seconds(3661)), "1h1m1s");
  for (const char* const bad :
       {"", "s", "5", "-5s", "5 s", "1m1h", "1s1s", "1.5h", "5x", "99999999999999999999h", "4000d", "1h30", "on"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

TEST(Flags, KeysRotateByThemselvesWhereTheServerPublishesThem) {
  using std::chrono::hours;
  using std::chrono::seconds;
  EXPECT_EQ(Good(kServer).ech_rotate, seconds(0));
  EXPECT_EQ(Good(kServer + "-serve-dns").ech_rotate, hours(24));
  EXPECT_EQ(Good(kServer + "-serve-dns -ech-keys keys").ech_rotate, seconds(0)) << "who brings keys changes them";
  EXPECT_EQ(Good(kServer + "-serve-dns -ech-rotate off").ech_rotate, seconds(0));
  EXPECT_EQ(Good(kServer + "-ech-keys keys -ech-rotate 12h").ech_rotate, hours(12));
  EXPECT_EQ(Good(kServer + "-ech-publish-delay 90s").ech_publish_delay, seconds(90));
  EXPECT_EQ(ErrorOf(kServer + "-ech-rotate daily"),
            "-ech-rotate \"daily\": expected a time as 24h, 90m, 30s or 1h30m, or off");
  EXPECT_THAT(DescribeConfig(Good(kServer + "-serve-dns -ech-publish-delay 90s")),
              HasSubstr(" ech-rotate=24h ech-publish-delay=1m30s "));
}

TEST(TargetRules, PrintAsTheyAreRead) {
  for (const char* const text : {"*", "*:443", "*.example.org", "*.example.org:80-443", "example.org:22", "10.0.0.0/8",
                                 "192.0.2.1/32:1-2", "[fd00::]/8", "[::1]/128:65535", "localhost"}) {
    const absl::StatusOr<net::TargetRule> rule = ParseTargetRule(text);
    ASSERT_TRUE(rule.ok()) << text;
    EXPECT_EQ(ToString(*rule), text);
  }
}

TEST(ReverseRules, AreRangesWithPorts) {
  for (const char* const text : {"127.0.0.0/8:8000-9000", "192.0.2.1/32:1", "[fd00::]/8:80-81", "[::1]/128:65535"}) {
    const absl::StatusOr<net::TargetRule> rule = ParseReverseRule(text);
    ASSERT_TRUE(rule.ok()) << text;
    EXPECT_EQ(ToString(*rule), text);
  }
  for (const char* const text : {"0.0.0.0:*", "[::]/0:*", "10.0.0.0/8:1-65535"}) {
    const absl::StatusOr<net::TargetRule> rule = ParseReverseRule(text);
    ASSERT_TRUE(rule.ok()) << text;
    EXPECT_EQ(rule->first_port, 1);
    EXPECT_EQ(rule->last_port, 65535);
  }
  for (const char* const text : {"", "*", "*:80", "127.0.0.1", "127.0.0.0/8", "localhost:80", "*.example.org:80",
                                 "unix:/run/a.sock", "unix:/run/a:80", "::1:80", "[::1]", "127.0.0.1:0",
                                 "127.0.0.1:", "127.0.0.1:9-8", "127.0.0.1:1:2", "[127.0.0.1]:80"}) {
    EXPECT_FALSE(ParseReverseRule(text).ok()) << text;
  }
}

TEST(TargetRules, RefuseWhatIsNotMeant) {
  for (const char* const text :
       {"",        "*.",      "*.*",        "*example.org", "example.org.", "[::1",         "[::1]x",
        "[::1]8",  "[[::1]]", "[10.0.0.1]", "[::]/129",     "[::/8]/8",     "10.0.0.0/8/8", "10.0.0.0/",
        ":22",     "a:",      "a:1-",       "a:-1",         "a:1-2-3",      "a:+1",         "a:01",
        "a:65536", "a b",     "a:1:2",      "2130706433",   "0x7f.1",       "*.0x7f"}) {
    EXPECT_FALSE(ParseTargetRule(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tunnel::tools
