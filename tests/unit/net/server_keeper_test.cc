// What a client knows of its server over hours and days of the test's clock, and how its cores learn of it.
#include "net/server_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "ech/key_store.h"
#include "manual_backend.h"
#include "net/name_guard.h"
#include "net/server_directory.h"
#include "proto/dns_message.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using namespace std::chrono_literals;
using core::Duration;
using core::TimePoint;
using proto::DnsType;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<uint8_t> NewList() {
  auto key = ech::GenerateKey("outer.example", 64, {}, {});
  EXPECT_TRUE(key.ok());
  return key->ConfigListBytes();
}

// A resolver whose records a test changes. Counts lookups by their questions of type HTTPS.
class ScriptedDoh final : public ech::DohTransport {
 public:
  bool dead = false;
  Duration delay = 1ms;
  std::vector<uint8_t> list = NewList();
  uint32_t ttl_seconds = 300;
  uint32_t address_ttl_seconds = 3600;
  std::string address = "192.0.2.1";
  std::string target = ".";
  std::string alias;  // of secret.example, in AliasMode, to this name, whose records are then those
  std::optional<uint16_t> port;
  int lookups = 0;

  core::Task<absl::StatusOr<std::vector<uint8_t>>> Query(std::string name, uint16_t type) override {
    const auto dns_type = static_cast<DnsType>(type);
    const bool aliased = !alias.empty() && name == "secret.example";
    if (dns_type == DnsType::kHttps && (aliased || alias.empty())) ++lookups;
    const absl::Status slept = co_await core::Sleep(delay);
    if (!slept.ok()) co_return slept;
    if (dead) co_return Unavailable("DoH resolver x: blocked");
    const proto::DnsQuery query{.question = {.name = name, .type = dns_type}};
    std::vector<proto::DnsRecord> records;
    if (dns_type == DnsType::kHttps) {
      proto::HttpsRecord record;
      if (aliased) {
        record.target = alias;
      } else {
        record.priority = 1;
        record.target = target;
        record.port = port;
        record.ech = list;
      }
      records.push_back({.name = name, .type = dns_type, .ttl_seconds = ttl_seconds, .data = std::move(record)});
    } else if (dns_type == DnsType::kA && (target == "." ? !aliased : name == target)) {
      records.push_back({.name = name,
                         .type = dns_type,
                         .ttl_seconds = address_ttl_seconds,
                         .data = *proto::ParseIpAddress(address)});
    }
    co_return proto::BuildResponse(query, records);
  }
};

class ServerKeeperTest : public ManualReactorTest {
 protected:
  ServerKeeperTest() {
    config_.server_host = "secret.example";
    config_.ech_name = "secret.example";
    config_.doh_urls = {"https://192.0.2.53/dns-query"};
    std::string name = testing::TempDir() + "server_keeper_XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    file_ = root_ / "ech-cache";
  }
  ~ServerKeeperTest() override {
    Stop();
    std::filesystem::remove_all(root_);
  }

  void Start(bool keep = false) {
    scope_ = std::make_unique<core::Scope>(reactor());
    auto keeper = ServerKeeper::Create(reactor(), config_, doh_, *scope_, keep ? file_ : std::filesystem::path());
    ASSERT_TRUE(keeper.ok()) << keeper.status();
    keeper_ = *std::move(keeper);
    directory_ = std::make_unique<ServerDirectory>(reactor(), config_,
                                                   [this](ServerDirectory::ToKeeper call) { call(*keeper_); });
    keeper_->Subscribe([this](const auto& knowledge) { directory_->Learn(knowledge); });
  }
  void Stop() {
    if (scope_ == nullptr) return;
    scope_->Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope_->empty(); }));
    keeper_.reset();
    directory_.reset();
    scope_.reset();
  }

  using Answer = absl::StatusOr<ServerRoute>;
  // The route, if it is had while time stands still.
  std::optional<Answer> RouteNow() {
    std::optional<Answer> answer;
    core::Scope scope(reactor());
    scope.Spawn(StoreResult(directory_->Route(), &answer));
    Settle();
    const std::optional<Answer> now = answer;
    scope.Cancel();
    EXPECT_TRUE(RunUntil([&] { return scope.empty(); }));
    return now;
  }
  std::string Failure() {
    const auto answer = RouteNow();
    if (!answer.has_value()) return "waits";
    return answer->ok() ? "none" : std::string(MessageOf(answer->status()));
  }
  std::vector<uint8_t> ListNow() {
    const auto answer = RouteNow();
    return answer.has_value() && answer->ok() && (*answer)->ech.has_value() ? (*answer)->ech->list
                                                                            : std::vector<uint8_t>();
  }
  std::vector<std::string> AddressesNow() {
    std::vector<std::string> texts;
    const auto answer = RouteNow();
    if (!answer.has_value() || !answer->ok()) return texts;
    for (const core::SocketAddress& address : (*answer)->addresses) texts.push_back(address.ToString());
    return texts;
  }
  ech::RejectionAction Reject(const std::vector<uint8_t>& retry_configs) {
    const auto answer = RouteNow();
    EXPECT_TRUE(answer.has_value() && answer->ok());
    return directory_->OnRejected(*(*answer)->ech, retry_configs).action;
  }
  std::optional<ech::CacheEntry> Kept() {
    std::string warning;
    auto entry = ech::LoadCacheEntry(
        file_, {.host = config_.server_host, .port = config_.server_port, .ech_name = config_.ech_name}, warning);
    EXPECT_TRUE(entry.ok());
    return entry.ok() ? *entry : std::nullopt;
  }
  bool RunUntilKept(const std::vector<uint8_t>& list) {
    return RunUntil([&] {
      const auto entry = Kept();
      return entry.has_value() && entry->config.has_value() && entry->config->list == list;
    });
  }

  Config config_;
  ScriptedDoh doh_;
  std::filesystem::path root_;
  std::filesystem::path file_;
  std::unique_ptr<core::Scope> scope_;
  std::unique_ptr<ServerKeeper> keeper_;
  std::unique_ptr<ServerDirectory> directory_;
};

TEST_F(ServerKeeperTest, DialsWaitForTheFirstLookup) {
  Start();
  EXPECT_EQ(Failure(), "waits");
  std::optional<Answer> first;
  std::optional<Answer> second;
  scope_->Spawn(StoreResult(directory_->Route(), &first));
  scope_->Spawn(StoreResult(directory_->Route(), &second));
  RunFor(5ms);
  ASSERT_TRUE(first.has_value() && first->ok() && second.has_value() && second->ok());
  EXPECT_EQ((*first)->ech->list, doh_.list);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:443"));
  EXPECT_EQ(doh_.lookups, 1);
}

TEST_F(ServerKeeperTest, RefreshesAheadOfExpiryWithoutADial) {
  Start();
  RunFor(5ms);
  const std::vector<uint8_t> old = doh_.list;
  doh_.list = NewList();
  RunFor(200s);
  EXPECT_EQ(ListNow(), old);
  EXPECT_EQ(doh_.lookups, 1);
  RunFor(41s);
  EXPECT_EQ(ListNow(), doh_.list);
  EXPECT_EQ(doh_.lookups, 2);
  // TTL 0: 30 s are taken, so 21 to 24 s between lookups.
  doh_.ttl_seconds = 0;
  RunFor(241s);
  const int before = doh_.lookups;
  RunFor(10min);
  EXPECT_GE(doh_.lookups - before, 24);
  EXPECT_LE(doh_.lookups - before, 29);
  // For ever: a day is taken of the list's, an hour of the address's.
  doh_.ttl_seconds = INT32_MAX;
  doh_.address_ttl_seconds = INT32_MAX;
  RunFor(1min);
  const int later = doh_.lookups;
  RunFor(24h);
  EXPECT_GE(doh_.lookups - later, 29);
  EXPECT_LE(doh_.lookups - later, 36);
  EXPECT_EQ(reactor().counters().server_lookups.Get(), doh_.lookups);
  EXPECT_EQ(reactor().counters().server_lookups_failed.Get(), 0);
}

TEST_F(ServerKeeperTest, GoesOnWithWhatExpiredForAWeek) {
  Start();
  RunFor(5ms);
  const std::vector<uint8_t> old = doh_.list;
  doh_.dead = true;
  RunFor(24h);
  EXPECT_EQ(ListNow(), old) << "at once, without waiting for a lookup";
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:443"));
  // With back-off: every 30 to 60 s.
  EXPECT_GE(doh_.lookups, 1400);
  EXPECT_LE(doh_.lookups, 2900);
  RunFor(6 * 24h);
  EXPECT_EQ(ListNow(), old);
  RunFor(300s);
  EXPECT_THAT(Failure(), AllOf(HasSubstr("no connection without ECH"), HasSubstr("blocked"), HasSubstr("ago)")));
  doh_.dead = false;
  doh_.list = NewList();
  RunFor(kLookupBackOffMax + 1s);
  EXPECT_EQ(ListNow(), doh_.list);
}

TEST_F(ServerKeeperTest, AFailedLookupIsNotRepeatedByEveryDial) {
  doh_.dead = true;
  Start();
  RunFor(10ms);
  EXPECT_EQ(doh_.lookups, 1);
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Failure(), AllOf(HasSubstr("ECH config of secret.example from https://192.0.2.53/dns-query"),
                                 HasSubstr("blocked"), HasSubstr("(asked 0 s ago)")));
  }
  EXPECT_EQ(doh_.lookups, 1);
  RunFor(kLookupBackOffMin);
  EXPECT_EQ(doh_.lookups, 2);
  RunFor(10min);
  EXPECT_LE(doh_.lookups, 35);
  EXPECT_GE(doh_.lookups, 14);
  EXPECT_EQ(reactor().counters().server_lookups_failed.Get(), doh_.lookups);
  doh_.dead = false;
  RunFor(kLookupBackOffMax);
  EXPECT_EQ(ListNow(), doh_.list);
}

TEST_F(ServerKeeperTest, ALookupThatHangsIsCutShort) {
  doh_.delay = 24h;
  Start();
  RunFor(kLookupLimit - 1s);
  EXPECT_EQ(Failure(), "waits");
  RunFor(1s + 10ms);
  EXPECT_THAT(Failure(), HasSubstr("no connection without ECH"));
}

TEST_F(ServerKeeperTest, ARecordWithoutAUsableListIsAFailure) {
  doh_.list = {0, 1, 2};
  Start();
  RunFor(10ms);
  EXPECT_THAT(Failure(), HasSubstr("ECH config of secret.example"));
  doh_.list.clear();
  RunFor(2s);
  EXPECT_THAT(Failure(), HasSubstr("no ech="));
}

TEST_F(ServerKeeperTest, RetryConfigsAreKeptAgainstADnsThatIsBehind) {
  Start();
  RunFor(5ms);
  const std::vector<uint8_t> retry = NewList();
  EXPECT_EQ(Reject(retry), ech::RejectionAction::kRetryOnceWithRetryConfigs);
  EXPECT_EQ(ListNow(), retry) << "the next dial is not rejected again";
  EXPECT_EQ(doh_.lookups, 1);
  RunFor(kLookupSpacing);
  EXPECT_EQ(doh_.lookups, 2) << "the DNS is asked soon, and once";
  RunFor(1h);
  EXPECT_EQ(ListNow(), retry);
  doh_.list = NewList();
  RunFor(241s);
  EXPECT_EQ(ListNow(), doh_.list);
}

TEST_F(ServerKeeperTest, AfterTwoRejectionsADialWaitsForTheLookupButNotLong) {
  Start();
  RunFor(kLookupSpacing + 1s);
  const std::vector<uint8_t> retry = NewList();
  doh_.delay = 10s;
  const auto route = RouteNow();
  const ech::Rejection first = directory_->OnRejected(*(*route)->ech, retry);
  EXPECT_EQ(directory_->OnRejected(first.retry, NewList()).action, ech::RejectionAction::kBackOff);
  EXPECT_EQ(Failure(), "waits");
  std::optional<Answer> answer;
  scope_->Spawn(StoreResult(directory_->Route(), &answer));
  RunFor(kSuspectWait - 10ms);
  EXPECT_FALSE(answer.has_value());
  RunFor(20ms);
  ASSERT_TRUE(answer.has_value() && answer->ok());
  EXPECT_EQ((*answer)->ech->list, retry);
  // Nothing to wait for: rejections do not make it ask without pause.
  doh_.delay = 1ms;
  RunFor(30s);
  const int before = doh_.lookups;
  for (int i = 0; i < 100; ++i) {
    (void)directory_->OnRejected({doh_.list, ech::ConfigOrigin::kDns, true}, retry);
    RunFor(100ms);
  }
  EXPECT_LE(doh_.lookups - before, 3);
}

TEST_F(ServerKeeperTest, AnEmptyRetryListIsEchSwitchedOff) {
  Start();
  RunFor(5ms);
  EXPECT_EQ(Reject({}), ech::RejectionAction::kEchDisabledByServer);
  RunFor(kLookupSpacing + 10ms);
  EXPECT_EQ(doh_.lookups, 2);
  EXPECT_EQ(ListNow(), doh_.list) << "ECH all the same";
}

TEST_F(ServerKeeperTest, AsksAgainWhenTheAddressFails) {
  Start();
  RunFor(1min);
  doh_.address = "192.0.2.2";
  directory_->OnDialFailed();
  EXPECT_EQ(Failure(), "waits");
  RunFor(5ms);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.2:443"));
  for (int i = 0; i < 50; ++i) directory_->OnDialFailed();
  RunFor(1s);
  EXPECT_EQ(doh_.lookups, 2);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.2:443")) << "the old ones meanwhile";
  RunFor(kLookupSpacing);
  EXPECT_EQ(doh_.lookups, 3);
}

TEST_F(ServerKeeperTest, AsksAgainForTheListAloneToo) {
  config_.server_addresses = {*core::SocketAddress::Parse("192.0.2.9", 0)};
  Start();
  RunFor(1min);
  doh_.list = NewList();
  directory_->OnDialFailed();
  RunFor(5ms);
  EXPECT_EQ(ListNow(), doh_.list);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.9:443"));
}

TEST_F(ServerKeeperTest, FollowsTheServersOwnRecord) {
  doh_.target = "edge.example";
  doh_.port = 8443;
  Start();
  RunFor(5ms);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:8443"));
  EXPECT_EQ(ListNow(), doh_.list);
  Stop();
  doh_.alias = "pool.example";
  Start();
  RunFor(10ms);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:8443"));
  // Another port, and the addresses' TTL over first: it is asked about as a whole.
  doh_.port = 9443;
  doh_.address_ttl_seconds = 30;
  RunFor(5min);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:9443"));
}

TEST_F(ServerKeeperTest, AsksNothingWhenAllIsGiven) {
  const std::vector<uint8_t> list = NewList();
  config_.ech_config_list.assign(list.begin(), list.end());
  config_.server_addresses = {*core::SocketAddress::Parse("192.0.2.9", 0)};
  config_.state_directory = root_;
  EXPECT_FALSE(ServerKeeper::LooksUp(config_));
  EXPECT_EQ(ServerKeeper::CacheFileOf(config_), "");
  Start();
  EXPECT_EQ(ListNow(), list);
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.9:443"));
  const std::vector<uint8_t> retry = NewList();
  EXPECT_EQ(Reject(retry), ech::RejectionAction::kRetryOnceWithRetryConfigs);
  directory_->OnDialFailed();
  RunFor(24h);
  EXPECT_EQ(ListNow(), retry);
  EXPECT_EQ(doh_.lookups, 0);
}

TEST_F(ServerKeeperTest, StartsFromTheFileWhenDohIsBlocked) {
  Start(true);
  RunFor(5ms);
  const std::vector<uint8_t> list = doh_.list;
  ASSERT_TRUE(RunUntilKept(list));
  Stop();
  RunFor(24h);

  doh_.dead = true;
  Start(true);
  EXPECT_EQ(ListNow(), list) << "while the lookup is going on";
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:443"));
  RunFor(1min);
  EXPECT_EQ(ListNow(), list);
  const std::vector<uint8_t> retry = NewList();
  Reject(retry);
  ASSERT_TRUE(RunUntilKept(retry));
  Stop();

  // What was rejected stays so, even if the DNS brings it again.
  doh_.dead = false;
  Start(true);
  EXPECT_EQ(ListNow(), retry);
  RunFor(2h);
  EXPECT_EQ(ListNow(), retry);
  Stop();

  RunFor(8 * 24h);
  doh_.dead = true;
  Start(true);
  RunFor(1min);
  EXPECT_THAT(Failure(), HasSubstr("no connection without ECH"));
}

TEST_F(ServerKeeperTest, WhatIsFreshInTheFileIsNotAskedFor) {
  Start(true);
  RunFor(5ms);
  ASSERT_TRUE(RunUntilKept(doh_.list));
  Stop();
  RunFor(2s);
  Start(true);
  EXPECT_EQ(ListNow(), doh_.list);
  RunFor(100s);
  EXPECT_EQ(doh_.lookups, 1);
  RunFor(140s);
  EXPECT_EQ(doh_.lookups, 2);
}

TEST_F(ServerKeeperTest, TimesAloneAreWrittenOnceAnHour) {
  doh_.ttl_seconds = 60;
  Start(true);
  RunFor(5ms);
  ASSERT_TRUE(RunUntilKept(doh_.list));
  const int64_t stored = Kept()->config->stored_seconds;
  RunFor(30min);
  EXPECT_EQ(Kept()->config->stored_seconds, stored);
  RunFor(32min);
  ASSERT_TRUE(RunUntil([&] { return Kept()->config->stored_seconds >= stored + kSaveInterval.count(); }));
}

TEST_F(ServerKeeperTest, AFileThatCannotBeReadOrWrittenIsDoneWithout) {
  {
    std::ofstream(file_) << "rubbish";
  }
  Start(true);
  RunFor(5ms);
  EXPECT_EQ(ListNow(), doh_.list);
  ASSERT_TRUE(RunUntilKept(doh_.list));
  EXPECT_TRUE(std::filesystem::exists(root_ / "ech-cache.bad"));
  Stop();

  std::filesystem::remove(file_);
  std::filesystem::create_directory(file_);
  Start(true);
  RunFor(5ms);
  EXPECT_EQ(ListNow(), doh_.list);
  RunFor(10min);
  EXPECT_EQ(ListNow(), doh_.list);
}

TEST_F(ServerKeeperTest, WithFallbackOnlyTheAddressIsAskedFor) {
  config_.fallback = true;
  Start();
  RunFor(5ms);
  const auto route = RouteNow();
  ASSERT_TRUE(route.has_value() && route->ok());
  EXPECT_FALSE((*route)->ech.has_value());
  EXPECT_THAT(AddressesNow(), ElementsAre("192.0.2.1:443"));
  EXPECT_EQ(doh_.lookups, 0);
}

TEST_F(ServerKeeperTest, ADirectoryThatWasToldNothingWaits) {
  directory_ = std::make_unique<ServerDirectory>(reactor(), config_, [](const ServerDirectory::ToKeeper&) {});
  EXPECT_EQ(Failure(), "waits");
}

class FixedResolver final : public Resolver {
 public:
  core::Task<absl::StatusOr<std::vector<core::SocketAddress>>> Resolve(std::string host, uint16_t port) override {
    asked.push_back(std::move(host));
    co_return std::vector<core::SocketAddress>{*core::SocketAddress::Parse("192.0.2.1", port)};
  }
  std::vector<std::string> asked;
};

TEST(NameGuardTest, RefusesOneNameHoweverItIsSpelled) {
  const auto reactor = MakeTestReactor();
  FixedResolver inner;
  NameGuard guard(inner, "Secret.example");
  for (const char* name : {"secret.example", "SECRET.EXAMPLE", "secret.example.", "Secret.Example."}) {
    EXPECT_TRUE(absl::IsPermissionDenied(RunTask(*reactor, guard.Resolve(name, 1)).status())) << name;
  }
  EXPECT_TRUE(RunTask(*reactor, guard.Resolve("other.example", 1)).ok());
  EXPECT_TRUE(RunTask(*reactor, guard.Resolve("a.secret.example", 1)).ok());
  EXPECT_TRUE(RunTask(*reactor, guard.Resolve("192.0.2.7", 1)).ok());
  EXPECT_THAT(inner.asked, ElementsAre("other.example", "a.secret.example", "192.0.2.7"));
  NameGuard none(inner, "");
  EXPECT_TRUE(RunTask(*reactor, none.Resolve("secret.example", 1)).ok());
}

}  // namespace
}  // namespace tunnel::net
