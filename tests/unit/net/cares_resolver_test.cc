#include "net/cares_resolver.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <functional>
#include <thread>

#include "proto/dns_message.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using core::SocketAddress;
using proto::DnsQuery;
using proto::DnsRcode;
using proto::DnsRecord;
using proto::DnsType;
using testing::HasSubstr;

using Result = absl::StatusOr<std::vector<SocketAddress>>;

// A DNS server on loopback with a thread of its own.
class DnsServer {
 public:
  // Makes the response; nothing for silence.
  using Script = std::function<std::vector<uint8_t>(const DnsQuery&)>;

  explicit DnsServer(Script script) : script_(std::move(script)), socket_(::socket(AF_INET, SOCK_DGRAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    socklen_t length = sizeof(address);
    EXPECT_EQ(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~DnsServer() {
    ::shutdown(socket_, SHUT_RD);  // wakes recvfrom
    thread_.join();
    ::close(socket_);
  }
  [[nodiscard]] std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  [[nodiscard]] int queries() const { return queries_; }

 private:
  void Serve() {
    std::array<uint8_t, 2048> buffer = {};
    while (true) {
      sockaddr_storage from = {};
      socklen_t length = sizeof(from);
      const ssize_t size =
          ::recvfrom(socket_, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
      if (size <= 0) return;
      const auto query = proto::ParseQuery(std::span(buffer).first(static_cast<size_t>(size)));
      if (!query.ok()) continue;
      ++queries_;
      const std::vector<uint8_t> response = script_(*query);
      if (response.empty()) continue;
      (void)::sendto(socket_, response.data(), response.size(), 0, reinterpret_cast<sockaddr*>(&from), length);
    }
  }

  Script script_;
  int socket_;
  uint16_t port_ = 0;
  std::atomic<int> queries_{0};
  std::thread thread_;
};

DnsRecord Address(const DnsQuery& query, std::string_view text, uint32_t ttl_seconds = 300) {
  return {.name = query.question.name,
          .type = query.question.type,
          .ttl_seconds = ttl_seconds,
          .data = *proto::ParseIpAddress(text)};
}

std::vector<uint8_t> Respond(const DnsQuery& query, const std::vector<DnsRecord>& records,
                             DnsRcode rcode = DnsRcode::kNoError) {
  return *proto::BuildResponse(query, records, rcode);
}

std::vector<uint8_t> BothFamilies(const DnsQuery& query) {
  if (query.question.type == DnsType::kAaaa) return Respond(query, {Address(query, "2001:db8::1")});
  return Respond(query, {Address(query, "192.0.2.1"), Address(query, "192.0.2.2")});
}

class CaresResolverTest : public testing::Test {
 protected:
  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  CaresOptions options_{.query_timeout = std::chrono::milliseconds(100)};

  std::unique_ptr<CaresResolver> Make(const DnsServer& server) {
    options_.servers = server.address();
    auto resolver = CaresResolver::Create(*reactor_, options_);
    EXPECT_TRUE(resolver.ok()) << resolver.status();
    return *std::move(resolver);
  }
  Result Resolve(CaresResolver& resolver, const std::string& host) {
    return RunTask(*reactor_, resolver.Resolve(host, 443));
  }
  static std::vector<std::string> Texts(const Result& result) {
    std::vector<std::string> texts;
    if (!result.ok()) return {std::string(MessageOf(result.status()))};
    for (const SocketAddress& address : *result) texts.push_back(address.ToString());
    return texts;
  }
};

const std::vector<std::string> kBothFamilies = {"[2001:db8::1]:443", "192.0.2.1:443", "192.0.2.2:443"};

TEST_F(CaresResolverTest, FindsBothFamiliesInDiallingOrder) {
  const DnsServer server(BothFamilies);
  const auto resolver = Make(server);
  EXPECT_EQ(Texts(Resolve(*resolver, "target.example")), kBothFamilies);
  EXPECT_EQ(server.queries(), 2);
}

TEST_F(CaresResolverTest, TakesLiteralsForWhatTheyAre) {
  const DnsServer server(BothFamilies);
  const auto resolver = Make(server);
  EXPECT_EQ(Texts(Resolve(*resolver, "192.0.2.9")), (std::vector<std::string>{"192.0.2.9:443"}));
  EXPECT_EQ(Texts(Resolve(*resolver, "2001:db8::9")), (std::vector<std::string>{"[2001:db8::9]:443"}));
  EXPECT_EQ(server.queries(), 0);
}

TEST_F(CaresResolverTest, ReadsTheHostsFile) {
  const DnsServer server(BothFamilies);
  const auto resolver = Make(server);
  const Result result = Resolve(*resolver, "localhost");
  ASSERT_TRUE(result.ok()) << result.status();
  for (const SocketAddress& address : *result) EXPECT_TRUE(address.ip() == "127.0.0.1" || address.ip() == "::1");
  EXPECT_EQ(server.queries(), 0);
}

TEST_F(CaresResolverTest, KeepsAnswersForTheirTtl) {
  const DnsServer server(BothFamilies);
  const auto resolver = Make(server);
  EXPECT_TRUE(Resolve(*resolver, "target.example").ok());
  EXPECT_EQ(Texts(Resolve(*resolver, "TARGET.example")), kBothFamilies);
  EXPECT_EQ(server.queries(), 2);
}

TEST_F(CaresResolverTest, KeepsNoAnswerWithoutTtl) {
  const DnsServer server([](const DnsQuery& query) {
    return query.question.type == DnsType::kA ? Respond(query, {Address(query, "192.0.2.1", 0)}) : Respond(query, {});
  });
  const auto resolver = Make(server);
  EXPECT_TRUE(Resolve(*resolver, "target.example").ok());
  EXPECT_TRUE(Resolve(*resolver, "target.example").ok());
  EXPECT_EQ(server.queries(), 4);
  EXPECT_EQ(resolver->cached_names(), 0);
}

TEST_F(CaresResolverTest, BoundsItsCache) {
  const DnsServer server(BothFamilies);
  options_.cache_names = 3;
  const auto resolver = Make(server);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Resolve(*resolver, fmt::format("n{}.example", i)).ok());
  EXPECT_EQ(resolver->cached_names(), 3);
}

TEST_F(CaresResolverTest, SaysWhenANameDoesNotExist) {
  const DnsServer server([](const DnsQuery& query) { return Respond(query, {}, DnsRcode::kNxDomain); });
  const auto resolver = Make(server);
  const Result result = Resolve(*resolver, "missing.example.");
  EXPECT_TRUE(absl::IsNotFound(result.status())) << result.status();
  EXPECT_THAT(std::string(MessageOf(result.status())), HasSubstr("missing.example"));
}

TEST_F(CaresResolverTest, SaysWhenANameHasNoAddresses) {
  const DnsServer server([](const DnsQuery& query) { return Respond(query, {}); });
  const auto resolver = Make(server);
  EXPECT_TRUE(absl::IsNotFound(Resolve(*resolver, "empty.example.").status()));
}

TEST_F(CaresResolverTest, SaysWhenTheServerFails) {
  const DnsServer server([](const DnsQuery& query) { return Respond(query, {}, DnsRcode::kServFail); });
  const auto resolver = Make(server);
  const Result result = Resolve(*resolver, "broken.example.");
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
}

TEST_F(CaresResolverTest, GivesUpOnASilentServer) {
  const DnsServer server([](const DnsQuery&) { return std::vector<uint8_t>(); });
  const auto resolver = Make(server);
  const Result result = Resolve(*resolver, "silent.example.");
  EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
  EXPECT_EQ(resolver->lookups_in_progress(), 0);
}

TEST_F(CaresResolverTest, SharesALookupOfOneName) {
  const DnsServer server(BothFamilies);
  const auto resolver = Make(server);
  std::vector<std::optional<Result>> results(20);
  core::Scope scope(*reactor_);
  for (auto& result : results) scope.Spawn(StoreResult(resolver->Resolve("target.example", 443), &result));
  EXPECT_EQ(resolver->lookups_in_progress(), 1);
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  for (const auto& result : results) EXPECT_EQ(Texts(*result), kBothFamilies);
  EXPECT_EQ(server.queries(), 2);
}

TEST_F(CaresResolverTest, BoundsLookupsInProgress) {
  const DnsServer server(BothFamilies);
  options_.max_lookups = 2;
  const auto resolver = Make(server);
  std::vector<std::optional<Result>> results(20);
  core::Scope scope(*reactor_);
  for (size_t i = 0; i < results.size(); ++i) {
    scope.Spawn(StoreResult(resolver->Resolve(fmt::format("n{}.example", i), 443), &results[i]));
  }
  ASSERT_TRUE(TurnUntil(*reactor_, [&] {
    EXPECT_LE(resolver->lookups_in_progress(), 2);
    return scope.empty();
  }));
  for (const auto& result : results) EXPECT_EQ(Texts(*result), kBothFamilies);
}

TEST_F(CaresResolverTest, LetsAnAbandonedLookupEndByItself) {
  std::atomic<bool> answer{false};
  const DnsServer server(
      [&answer](const DnsQuery& query) { return answer ? BothFamilies(query) : std::vector<uint8_t>(); });
  const auto resolver = Make(server);
  std::optional<Result> result;
  core::Scope scope(*reactor_);
  scope.Spawn(StoreResult(resolver->Resolve("slow.example", 443), &result));
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return server.queries() == 2; }));
  scope.Cancel();
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  EXPECT_TRUE(absl::IsCancelled(result->status())) << result->status();
  EXPECT_EQ(resolver->lookups_in_progress(), 1);
  answer = true;  // c-ares asks again
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return resolver->lookups_in_progress() == 0; }));
  EXPECT_EQ(resolver->cached_names(), 1);
}

TEST_F(CaresResolverTest, MayGoWhileAnAbandonedLookupRuns) {
  const DnsServer server([](const DnsQuery&) { return std::vector<uint8_t>(); });
  auto resolver = Make(server);
  std::optional<Result> result;
  core::Scope scope(*reactor_);
  scope.Spawn(StoreResult(resolver->Resolve("slow.example", 443), &result));
  scope.Cancel();
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  EXPECT_EQ(resolver->lookups_in_progress(), 1);
  resolver.reset();
}

TEST_F(CaresResolverTest, RefusesServersThatAreNone) {
  options_.servers = "not an address";
  EXPECT_FALSE(CaresResolver::Create(*reactor_, options_).ok());
}

}  // namespace
}  // namespace tunnel::net
