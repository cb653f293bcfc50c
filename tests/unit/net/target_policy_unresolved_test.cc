#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "net/target_policy.h"

namespace tunnel::net {
namespace {

using core::SocketAddress;
using Kind = TargetRule::Kind;

TargetRule Named(Kind kind, std::string name, uint16_t port = 0) {
  TargetRule rule{.kind = kind, .name = std::move(name)};
  if (port != 0) rule.first_port = rule.last_port = port;
  return rule;
}
TargetRule AnyTarget(uint16_t port = 0) { return Named(Kind::kAny, "", port); }
TargetRule Network(const char* text) { return {.kind = Kind::kNetwork, .network = *proto::ParseCidr(text)}; }

struct UnresolvedCase {
  std::string host;
  bool allowed;
};

void Check(const TargetPolicy& policy, const std::vector<UnresolvedCase>& cases, uint16_t port = 443) {
  for (const UnresolvedCase& c : cases)
    EXPECT_EQ(policy.AllowsUnresolved(c.host, port), c.allowed) << c.host << ":" << port;
}

TEST(TargetPolicy, UnresolvedNamesByDefault) {
  const TargetPolicy policy({}, {});
  Check(policy, {{"example.org", true},
                 {"localhost", false},
                 {"LocalHost.", false},
                 {"x.localhost", false},
                 {"notlocalhost", true},
                 {"192.0.2.1", true},
                 {"127.0.0.1", false},
                 {"::1", false},
                 {"::ffff:127.0.0.1", false},
                 {"64:ff9b::7f00:1", false},
                 {"fe80::1", false}});
}

TEST(TargetPolicy, UnresolvedNamesByRules) {
  const TargetPolicy all_but({Named(Kind::kSuffix, "example.org", 443), Network("10.0.0.0/8")}, {AnyTarget()});
  Check(all_but, {{"a.example.org", true},
                  {"A.Example.ORG.", true},
                  {"example.org", false},
                  {"other.test", false},
                  {"10.1.2.3", true},
                  {"11.1.2.3", false}});
  Check(all_but, {{"a.example.org", false}}, 80);

  const TargetPolicy some_not({}, {Named(Kind::kName, "bad.test"), AnyTarget(25), Network("192.0.2.0/24")});
  Check(some_not, {{"bad.test", false}, {"good.test", true}, {"192.0.2.7", false}});
  Check(some_not, {{"good.test", false}}, 25);

  const TargetPolicy local({Named(Kind::kName, "localhost", 8080)}, {});
  Check(local, {{"localhost", true}}, 8080);
  Check(local, {{"localhost", false}}, 8081);
}

TEST(TargetPolicy, UnixSocketsOnlyWhenNamed) {
  EXPECT_FALSE(TargetPolicy({}, {}).AllowsUnix("/run/a"));
  EXPECT_FALSE(
      TargetPolicy({AnyTarget(), Network("0.0.0.0/0"), Named(Kind::kName, "/run/a")}, {}).AllowsUnix("/run/a"));
  const TargetPolicy named({Named(Kind::kUnix, "/run/a")}, {});
  EXPECT_TRUE(named.AllowsUnix("/run/a"));
  EXPECT_FALSE(named.AllowsUnix("/run/ab"));
  EXPECT_FALSE(named.AllowsUnix("/run/../run/a"));
  EXPECT_FALSE(TargetPolicy({Named(Kind::kUnix, "/run/a")}, {Named(Kind::kUnix, "/run/a")}).AllowsUnix("/run/a"));
  // Nor does a rule for a socket say anything of hosts.
  EXPECT_FALSE(named.AllowsUnresolved("localhost", 443));
  EXPECT_FALSE(named.Allows("/run/a", *SocketAddress::Parse("127.0.0.1", 1)));
}

}  // namespace
}  // namespace tunnel::net
