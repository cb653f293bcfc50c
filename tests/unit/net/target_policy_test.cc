#include "net/target_policy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "proto/ip_address.h"

namespace tunnel::net {
namespace {

core::SocketAddress Address(const std::string& ip, uint16_t port = 80) {
  const auto parsed = core::SocketAddress::Parse(ip, port);
  EXPECT_TRUE(parsed.has_value()) << ip;
  return parsed.value_or(core::SocketAddress());
}

TargetRule Network(const std::string& cidr, uint16_t first = 1, uint16_t last = 65535) {
  const auto parsed = proto::ParseCidr(cidr);
  EXPECT_TRUE(parsed.ok()) << cidr;
  return {.kind = TargetRule::Kind::kNetwork, .network = *parsed, .name = {}, .first_port = first, .last_port = last};
}
TargetRule Name(const std::string& name, uint16_t first = 1, uint16_t last = 65535) {
  return {.kind = TargetRule::Kind::kName, .network = {}, .name = name, .first_port = first, .last_port = last};
}
TargetRule Suffix(const std::string& name) { return {.kind = TargetRule::Kind::kSuffix, .network = {}, .name = name}; }
TargetRule Any(uint16_t first = 1, uint16_t last = 65535) {
  return {.kind = TargetRule::Kind::kAny, .network = {}, .name = {}, .first_port = first, .last_port = last};
}

// --- what is denied by default, however it is spelled ---

TEST(TargetPolicyTest, DeniesByDefault) {
  const TargetPolicy policy({}, {});
  for (const char* ip : {// Loopback, unspecified, "this network", link-local with the metadata services, multicast,
                         // reserved, broadcast: first and last of each.
                         "127.0.0.1", "127.0.0.0", "127.255.255.255", "0.0.0.0", "0.0.0.1", "0.255.255.255",
                         "169.254.0.0", "169.254.169.254", "169.254.255.255", "224.0.0.1", "239.255.255.255",
                         "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::", "fe80::1", "febf:ffff::1",
                         "ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                         // IPv4-mapped (RFC 4291 section 2.5.5.2).
                         "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0.0.0.0", "::ffff:169.254.169.254",
                         "::ffff:224.0.0.1", "::ffff:255.255.255.255",
                         // IPv4-compatible (section 2.5.5.1), also where the first half of the address is zero.
                         "::127.0.0.1", "::7f00:1", "::169.254.169.254", "::2", "::ffff",
                         // IPv4-translated (RFC 2765).
                         "::ffff:0:127.0.0.1", "::ffff:0:169.254.169.254",
                         // NAT64: the well-known prefix (RFC 6052) and the local-use one (RFC 8215).
                         "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::0.0.0.0", "64:ff9b::e000:1",
                         "64:ff9b:1::127.0.0.1", "64:ff9b:1:fffe::169.254.169.254",
                         // 6to4 (RFC 3056): the IPv4 address is the next 32 bits.
                         "2002:7f00:1::", "2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:a9fe:a9fe:1:2:3:4:5",
                         "2002::", "2002:e000:1::1", "2002:ffff:ffff::1"}) {
    EXPECT_TRUE(IsDeniedByDefault(Address(ip))) << ip;
    // The name that led there does not matter.
    EXPECT_FALSE(policy.Allows(ip, Address(ip))) << ip;
    EXPECT_FALSE(policy.Allows("rebinding.test", Address(ip, 443))) << ip;
  }
}

TEST(TargetPolicyTest, AllowsTheRestByDefault) {
  const TargetPolicy policy({}, {});
  for (const char* ip :
       {"1.0.0.0", "8.8.8.8", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "223.255.255.255",
        // Private and shared space is an operator's to deny.
        "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "100.127.255.255", "198.18.0.1", "198.19.255.255",
        "fd00::1", "2001:db8::1", "2606:4700::1111", "fe00::1", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "::8.8.8.8",
        "64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "::ffff:0:8.8.8.8", "2002:808:808::1", "2003:7f00:1::",
        // Only what stands behind those prefixes is an IPv4 address.
        "2001:db8::127.0.0.1", "2001:db8::a9fe:a9fe", "64:ff9c::127.0.0.1"}) {
    EXPECT_FALSE(IsDeniedByDefault(Address(ip))) << ip;
    EXPECT_TRUE(policy.Allows(ip, Address(ip))) << ip;
  }
}

// --- rules and their order ---

struct PolicyCase {
  const char* what;
  std::vector<TargetRule> allow;
  std::vector<TargetRule> deny;
  const char* host;
  const char* ip;
  uint16_t port;
  bool allowed;
};

TEST(TargetPolicyTest, AppliesRulesInTheirOrder) {
  const std::vector<PolicyCase> cases = {
      {"a denied network", {}, {Network("10.0.0.0/8")}, "a.test", "10.1.2.3", 80, false},
      {"next to a denied network", {}, {Network("10.0.0.0/8")}, "a.test", "11.0.0.0", 80, true},
      {"shared space when denied", {}, {Network("100.64.0.0/10")}, "a.test", "100.100.100.200", 80, false},
      {"benchmark space when denied", {}, {Network("198.18.0.0/15")}, "a.test", "198.19.0.1", 80, false},

      // A rule for an IPv4 network holds for every spelling of its addresses.
      {"mapped", {}, {Network("10.0.0.0/8")}, "a.test", "::ffff:10.1.2.3", 80, false},
      {"compatible", {}, {Network("10.0.0.0/8")}, "a.test", "::10.1.2.3", 80, false},
      {"translated", {}, {Network("10.0.0.0/8")}, "a.test", "::ffff:0:10.1.2.3", 80, false},
      {"NAT64", {}, {Network("10.0.0.0/8")}, "a.test", "64:ff9b::10.1.2.3", 80, false},
      {"local NAT64", {}, {Network("10.0.0.0/8")}, "a.test", "64:ff9b:1::10.1.2.3", 80, false},
      {"6to4", {}, {Network("10.0.0.0/8")}, "a.test", "2002:a01:203::1", 80, false},
      {"6to4 of shared space", {}, {Network("100.64.0.0/10")}, "a.test", "2002:6440:1::1", 80, false},
      {"NAT64 of benchmark space", {}, {Network("198.18.0.0/15")}, "a.test", "64:ff9b::198.18.0.1", 80, false},
      {"a rule for the translator itself", {}, {Network("64:ff9b::/96")}, "a.test", "64:ff9b::8.8.8.8", 80, false},
      {"a rule for 6to4 itself", {}, {Network("2002::/16")}, "a.test", "2002:808:808::1", 80, false},
      {"a rule for all of IPv6 is not one for IPv4", {}, {Network("::/0")}, "a.test", "8.8.8.8", 80, true},
      {"nor for mapped IPv4", {}, {Network("::/0")}, "a.test", "::ffff:8.8.8.8", 80, true},

      // -allow-target by network, before everything.
      {"opens what is denied by default", {Network("127.0.0.0/8")}, {}, "localhost", "127.0.0.1", 80, true},
      {"opens IPv6 loopback", {Network("::1")}, {}, "localhost", "::1", 80, true},
      {"IPv4's rule does not open IPv6 loopback", {Network("0.0.0.0/0")}, {}, "localhost", "::1", 80, false},
      {"nor the unspecified address", {Network("0.0.0.0/0")}, {}, "localhost", "::", 80, false},
      {"opens only what it names", {Network("127.0.0.1")}, {}, "localhost", "127.0.0.2", 80, false},
      {"opens only its ports", {Network("127.0.0.1", 8000, 8080)}, {}, "localhost", "127.0.0.1", 7999, false},
      {"first port", {Network("127.0.0.1", 8000, 8080)}, {}, "localhost", "127.0.0.1", 8000, true},
      {"last port", {Network("127.0.0.1", 8000, 8080)}, {}, "localhost", "127.0.0.1", 8080, true},
      {"allow over deny", {Network("10.1.0.0/16")}, {Network("10.0.0.0/8")}, "a.test", "10.1.2.3", 80, true},
      {"the rest of it", {Network("10.1.0.0/16")}, {Network("10.0.0.0/8")}, "a.test", "10.2.2.3", 80, false},
      {"allow by port alone", {Any(443, 443)}, {Any()}, "a.test", "8.8.8.8", 443, true},
      {"another port", {Any(443, 443)}, {Any()}, "a.test", "8.8.8.8", 80, false},

      // A name never opens an address: whoever runs its zone decides where it points.
      {"name allowed, address denied by default", {Name("a.test")}, {}, "a.test", "127.0.0.1", 80, false},
      {"name allowed, network denied", {Name("a.test")}, {Network("10.0.0.0/8")}, "a.test", "10.0.0.1", 80, false},
      {"name allowed, all denied", {Name("a.test")}, {Any()}, "a.test", "8.8.8.8", 80, true},
      {"another name", {Name("a.test")}, {Any()}, "b.test", "8.8.8.8", 80, false},
      {"name on its port only", {Name("a.test", 443, 443)}, {Any()}, "a.test", "8.8.8.8", 80, false},

      // -deny-target by name.
      {"denied name", {}, {Name("a.test")}, "a.test", "8.8.8.8", 80, false},
      {"in capitals", {}, {Name("a.test")}, "A.TeSt", "8.8.8.8", 80, false},
      {"fully qualified", {}, {Name("a.test")}, "a.test.", "8.8.8.8", 80, false},
      {"not a longer name", {}, {Name("a.test")}, "aa.test", "8.8.8.8", 80, true},
      {"not its subdomain", {}, {Name("a.test")}, "x.a.test", "8.8.8.8", 80, true},
      {"on another port", {}, {Name("a.test", 25, 25)}, "a.test", "8.8.8.8", 80, true},
      {"suffix", {}, {Suffix("a.test")}, "x.a.test", "8.8.8.8", 80, false},
      {"deep suffix", {}, {Suffix("a.test")}, "x.y.a.test", "8.8.8.8", 80, false},
      {"suffix, fully qualified", {}, {Suffix("a.test")}, "X.A.test.", "8.8.8.8", 80, false},
      {"suffix is not the name itself", {}, {Suffix("a.test")}, "a.test", "8.8.8.8", 80, true},
      {"suffix needs a whole label", {}, {Suffix("a.test")}, "xa.test", "8.8.8.8", 80, true},
      {"suffix needs a label at all", {}, {Suffix("a.test")}, ".a.test", "8.8.8.8", 80, true},
      {"allowed name within a denied suffix",
       {Name("good.a.test")},
       {Suffix("a.test")},
       "good.a.test",
       "8.8.8.8",
       80,
       true},
      {"denied port", {}, {Any(25, 25)}, "a.test", "8.8.8.8", 25, false},
      {"beside a denied port", {}, {Any(25, 25)}, "a.test", "8.8.8.8", 26, true},
  };
  for (const PolicyCase& c : cases) {
    const TargetPolicy policy(c.allow, c.deny);
    EXPECT_EQ(policy.Allows(c.host, Address(c.ip, c.port)), c.allowed)
        << c.what << ": " << c.host << " at " << c.ip << " port " << c.port;
  }
}

}  // namespace
}  // namespace tunnel::net
