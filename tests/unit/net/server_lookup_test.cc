#include "net/server_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "net/dns_publisher.h"
#include "proto/dns_message.h"
#include "proto/dns_name.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using proto::DnsRcode;
using proto::DnsRecord;
using proto::DnsType;
using proto::HttpsRecord;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A zone that answers as a recursive resolver would.
class FakeTransport final : public ech::DohTransport {
 public:
  std::map<std::pair<std::string, DnsType>, std::vector<DnsRecord>> zone;
  std::map<std::pair<std::string, DnsType>, absl::Status> failures;
  std::vector<std::string> asked;

  void Add(const std::string& name, DnsType type, DnsRecord record) {
    record.name = name;
    record.type = record.type == DnsType::kCname ? DnsType::kCname : type;
    if (record.ttl_seconds == 0) record.ttl_seconds = 600;
    zone[{name, type}].push_back(std::move(record));
  }
  void AddAddress(const std::string& name, std::string_view text, uint32_t ttl_seconds = 600) {
    const proto::IpAddress ip = *proto::ParseIpAddress(text);
    Add(name, ip.v6 ? DnsType::kAaaa : DnsType::kA, {.ttl_seconds = ttl_seconds, .data = ip});
  }
  void AddHttps(const std::string& name, HttpsRecord record, uint32_t ttl_seconds = 600) {
    Add(name, DnsType::kHttps, {.ttl_seconds = ttl_seconds, .data = std::move(record)});
  }

  core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override {
    const auto dns_type = static_cast<DnsType>(type);
    asked.push_back(fmt::format("{}/{}", name, type));
    const absl::Status slept = co_await core::Sleep(std::chrono::milliseconds(1));
    if (!slept.ok()) co_return slept;
    if (const auto failure = failures.find({name, dns_type}); failure != failures.end()) co_return failure->second;
    const proto::DnsQuery query{.question = {.name = name, .type = dns_type}};
    const auto found = zone.find({name, dns_type});
    if (found == zone.end()) {
      bool exists = false;
      for (const auto& [key, records] : zone) exists = exists || key.first == name;
      co_return proto::BuildResponse(query, {}, exists ? DnsRcode::kNoError : DnsRcode::kNxDomain);
    }
    co_return proto::BuildResponse(query, found->second);
  }
};

// An ECHConfigList as far as the DNS looks at it.
std::vector<uint8_t> List(uint8_t mark) { return {0, 4, 0xfe, 0x0d, 0, mark}; }

HttpsRecord Service(std::vector<uint8_t> ech, uint16_t priority = 1) {
  HttpsRecord record;
  record.priority = priority;
  record.ech = std::move(ech);
  return record;
}

class ServerLookupTest : public testing::Test {
 protected:
  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  FakeTransport dns_;
  ServerQuestion question_{.host = "Server.Example", .port = 443, .ech_name = "server.example"};

  ServerAnswer LookUp() { return RunTask(*reactor_, LookUpServer(dns_, question_)); }
  static std::vector<std::string> Texts(const ServerAnswer& answer) {
    std::vector<std::string> texts;
    texts.reserve(answer.addresses.size());
    for (const core::SocketAddress& address : answer.addresses) texts.push_back(address.ToString());
    return texts;
  }
};

TEST_F(ServerLookupTest, FindsConfigsAndAddressesOfOneName) {
  dns_.AddHttps("server.example", Service(List(1)), 120);
  dns_.AddAddress("server.example", "192.0.2.1", 30);
  dns_.AddAddress("server.example", "192.0.2.2", 60);
  dns_.AddAddress("server.example", "2001:db8::1", 90);
  const ServerAnswer answer = LookUp();
  EXPECT_TRUE(answer.ech_status.ok()) << answer.ech_status;
  EXPECT_EQ(answer.ech_config_list, List(1));
  EXPECT_EQ(answer.ech_ttl_seconds, 120);
  EXPECT_TRUE(answer.address_status.ok());
  EXPECT_THAT(Texts(answer), ElementsAre("[2001:db8::1]:443", "192.0.2.1:443", "192.0.2.2:443"));
  EXPECT_EQ(answer.address_ttl_seconds, 30);
  EXPECT_EQ(answer.port, 443);
}

TEST_F(ServerLookupTest, TakesOnlyTheListFromAnotherName) {
  question_.ech_name = "cdn.example";
  HttpsRecord record = Service(List(2));
  record.port = 8443;
  record.target = "edge.cdn.example";
  record.no_default_alpn = true;
  record.alpn = {"h2"};
  dns_.AddHttps("cdn.example", record);
  dns_.AddAddress("server.example", "192.0.2.1");
  dns_.AddAddress("edge.cdn.example", "192.0.2.99");
  const ServerAnswer answer = LookUp();
  EXPECT_EQ(answer.ech_config_list, List(2));
  EXPECT_THAT(Texts(answer), ElementsAre("192.0.2.1:443"));
  EXPECT_EQ(answer.port, 443);
}

TEST_F(ServerLookupTest, AsksForThePortBeforeTheName) {
  question_.port = 8443;
  dns_.AddHttps("_8443._https.server.example", Service(List(3)));
  dns_.AddHttps("server.example", Service(List(1)));
  dns_.AddAddress("server.example", "192.0.2.1");
  ServerAnswer answer = LookUp();
  EXPECT_EQ(answer.ech_config_list, List(3));
  EXPECT_THAT(Texts(answer), ElementsAre("192.0.2.1:8443"));

  // The bare name's port and target are those of port 443.
  dns_.zone.clear();
  HttpsRecord bare = Service(List(1));
  bare.port = 9999;
  bare.target = "edge.example";
  dns_.AddHttps("server.example", bare);
  dns_.AddAddress("server.example", "192.0.2.1");
  dns_.AddAddress("edge.example", "192.0.2.2");
  answer = LookUp();
  EXPECT_EQ(answer.ech_config_list, List(1));
  EXPECT_THAT(Texts(answer), ElementsAre("192.0.2.1:8443"));
}

TEST_F(ServerLookupTest, DoesNotGoOnToTheNameWhenThePortsRecordFails) {
  question_.port = 8443;
  dns_.failures[{"_8443._https.server.example", DnsType::kHttps}] = Unavailable("DoH resolver x: HTTP status 500");
  dns_.AddHttps("server.example", Service(List(1)));
  dns_.AddAddress("server.example", "192.0.2.1");
  const ServerAnswer answer = LookUp();
  EXPECT_THAT(std::string(MessageOf(answer.ech_status)), HasSubstr("HTTP status 500"));
  EXPECT_TRUE(answer.address_status.ok());
}

TEST_F(ServerLookupTest, FollowsTargetAndPortOfItsOwnName) {
  HttpsRecord record = Service(List(4));
  record.target = "edge.example";
  record.port = 8443;
  dns_.AddHttps("server.example", record);
  dns_.AddAddress("server.example", "192.0.2.1");
  dns_.AddAddress("edge.example", "192.0.2.50");
  const ServerAnswer answer = LookUp();
  EXPECT_THAT(Texts(answer), ElementsAre("192.0.2.50:8443"));
  EXPECT_EQ(answer.port, 8443);
}

TEST_F(ServerLookupTest, FollowsAliasesAndCnames) {
  HttpsRecord alias;
  alias.target = "pool.example";
  dns_.AddHttps("server.example", alias, 50);
  dns_.Add("pool.example", DnsType::kHttps,
           {.type = DnsType::kCname, .ttl_seconds = 40, .data = proto::DnsCname{.target = "real.example"}});
  dns_.AddHttps("real.example", Service(List(5)), 900);
  dns_.AddAddress("real.example", "192.0.2.60");
  const ServerAnswer answer = LookUp();
  ASSERT_TRUE(answer.ech_status.ok()) << answer.ech_status;
  EXPECT_EQ(answer.ech_config_list, List(5));
  EXPECT_EQ(answer.ech_ttl_seconds, 40);
  EXPECT_THAT(Texts(answer), ElementsAre("192.0.2.60:443"));
}

TEST_F(ServerLookupTest, EndsLoopsOfAliases) {
  HttpsRecord a;
  a.target = "b.example";
  HttpsRecord b;
  b.target = "server.example";
  dns_.AddHttps("server.example", a);
  dns_.AddHttps("b.example", b);
  dns_.AddAddress("server.example", "192.0.2.1");
  const ServerAnswer answer = LookUp();
  EXPECT_THAT(std::string(MessageOf(answer.ech_status)), HasSubstr("aliases"));
  EXPECT_LE(dns_.asked.size(), static_cast<size_t>(kMaxAliases) + 3);
}

TEST_F(ServerLookupTest, UnderstandsThatThereIsNoService) {
  HttpsRecord none;
  none.target = ".";
  dns_.AddHttps("server.example", none);
  EXPECT_THAT(std::string(MessageOf(LookUp().ech_status)), HasSubstr("no such service"));
}

TEST_F(ServerLookupTest, PrefersServicesWithEchThenByPriorityThenByLot) {
  dns_.AddHttps("server.example", Service({}, 1));
  dns_.AddHttps("server.example", Service(List(9), 9));
  dns_.AddHttps("server.example", Service(List(5), 5));
  dns_.AddHttps("server.example", Service(List(6), 5));
  HttpsRecord other_protocol = Service(List(4), 4);
  other_protocol.alpn = {"h2"};
  other_protocol.no_default_alpn = true;
  dns_.AddHttps("server.example", other_protocol);
  std::set<std::vector<uint8_t>> seen;
  for (int i = 0; i < 64; ++i) seen.insert(LookUp().ech_config_list);
  EXPECT_EQ(seen, (std::set<std::vector<uint8_t>>{List(5), List(6)}));
}

TEST_F(ServerLookupTest, UsesHintsWhenThereAreNoAddresses) {
  HttpsRecord record = Service(List(1));
  record.ipv4hint = {*proto::ParseIpAddress("192.0.2.7")};
  record.ipv6hint = {*proto::ParseIpAddress("2001:db8::7")};
  dns_.AddHttps("server.example", record, 77);
  const ServerAnswer answer = LookUp();
  EXPECT_TRUE(answer.address_status.ok()) << answer.address_status;
  EXPECT_THAT(Texts(answer), ElementsAre("[2001:db8::7]:443", "192.0.2.7:443"));
  EXPECT_EQ(answer.address_ttl_seconds, 77);
}

TEST_F(ServerLookupTest, UsesOneFamilyWhenTheOtherFails) {
  dns_.failures[{"server.example", DnsType::kAaaa}] = Unavailable("DoH resolver x: SERVFAIL");
  dns_.AddAddress("server.example", "192.0.2.1");
  EXPECT_THAT(Texts(LookUp()), ElementsAre("192.0.2.1:443"));
  dns_.zone.clear();
  EXPECT_THAT(std::string(MessageOf(LookUp().address_status)), HasSubstr("SERVFAIL"));
}

TEST_F(ServerLookupTest, SaysWhatIsMissing) {
  ServerAnswer answer = LookUp();
  EXPECT_TRUE(absl::IsNotFound(answer.ech_status));
  EXPECT_THAT(std::string(MessageOf(answer.ech_status)), HasSubstr("server.example has no HTTPS record"));
  EXPECT_TRUE(absl::IsNotFound(answer.address_status));
  EXPECT_THAT(std::string(MessageOf(answer.address_status)), HasSubstr("Server.Example has neither A nor AAAA"));

  dns_.AddHttps("server.example", Service({}));
  answer = LookUp();
  EXPECT_THAT(std::string(MessageOf(answer.ech_status)), HasSubstr("no ech="));
}

TEST_F(ServerLookupTest, NeedsNoDnsForAnAddress) {
  question_.host = "192.0.2.3";
  question_.want_ech = false;
  EXPECT_THAT(Texts(LookUp()), ElementsAre("192.0.2.3:443"));
  EXPECT_THAT(dns_.asked, IsEmpty());
  question_.want_ech = true;
  question_.ech_name = "192.0.2.3";
  const ServerAnswer answer = LookUp();
  EXPECT_TRUE(absl::IsInvalidArgument(answer.ech_status));
  EXPECT_THAT(dns_.asked, IsEmpty());
}

TEST_F(ServerLookupTest, LooksUpOnlyWhatIsWanted) {
  dns_.AddHttps("server.example", Service(List(1)));
  question_.want_addresses = false;
  const ServerAnswer answer = LookUp();
  EXPECT_EQ(answer.ech_config_list, List(1));
  EXPECT_THAT(answer.addresses, IsEmpty());
  EXPECT_THAT(dns_.asked, ElementsAre("server.example/65"));
}

TEST_F(ServerLookupTest, HandsItsInterruptionOn) {
  std::optional<ServerAnswer> answer;
  core::Scope scope(*reactor_);
  scope.Spawn(StoreResult(LookUpServer(dns_, question_), &answer));
  scope.Cancel();
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  EXPECT_TRUE(absl::IsCancelled(answer->ech_status));
  EXPECT_TRUE(absl::IsCancelled(answer->address_status));
}

// What our own server publishes is what the client needs.
class PublishedTransport final : public ech::DohTransport {
 public:
  DnsPublisher publisher{{"secret.example"}};
  core::SocketAddress local = *core::SocketAddress::Parse("192.0.2.80", 8443);
  core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override {
    const auto query = proto::BuildQuery(name, static_cast<DnsType>(type));
    const std::vector<uint8_t> list = List(7);
    co_return publisher.Answer(*query, local, {reinterpret_cast<const char*>(list.data()), list.size()});
  }
};

TEST_F(ServerLookupTest, UnderstandsOurOwnPublisher) {
  PublishedTransport dns;
  for (const uint16_t port : {uint16_t{8443}, uint16_t{443}, uint16_t{9443}}) {
    const ServerAnswer answer =
        RunTask(*reactor_, LookUpServer(dns, {.host = "secret.example", .port = port, .ech_name = "secret.example"}));
    EXPECT_EQ(answer.ech_config_list, List(7)) << port;
    // Asked for another port than its own, it believes in a forwarding; for 443 it says where it listens.
    const uint16_t expected = port == 443 ? uint16_t{8443} : port;
    EXPECT_THAT(Texts(answer), ElementsAre(fmt::format("192.0.2.80:{}", expected)));
  }
}

}  // namespace
}  // namespace tunnel::net
