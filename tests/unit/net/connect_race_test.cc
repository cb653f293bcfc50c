#include "net/connect_race.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/listener.h"
#include "net/resolver.h"
#include "net/staggered_race.h"
#include "run_task.h"

namespace tunnel::net {
namespace {

using core::SocketAddress;
using testing::AllOf;
using testing::HasSubstr;

class ConnectRaceTest : public testing::Test {
 protected:
  std::unique_ptr<core::Reactor> reactor_ = MakeTestReactor();
  std::vector<core::StreamSocket> accepted_;
  std::vector<int> bound_;

  core::Listener Listen() {
    auto listener = core::Listener::Open(
        *reactor_, *SocketAddress::Parse("127.0.0.1", 0), false,
        [this](core::StreamSocket socket, const SocketAddress&) { accepted_.push_back(std::move(socket)); });
    EXPECT_TRUE(listener.ok()) << listener.status();
    return *std::move(listener);
  }
  ~ConnectRaceTest() override {
    for (const int descriptor : bound_) ::close(descriptor);
  }
  // An address nobody listens on, nor will.
  SocketAddress Closed() {
    bound_.push_back(::socket(AF_INET, SOCK_STREAM, 0));
    const SocketAddress any = *SocketAddress::Parse("127.0.0.1", 0);
    EXPECT_EQ(::bind(bound_.back(), any.kernel(), any.kernel_length()), 0);
    return reactor_->backend().LocalAddress(bound_.back());
  }
  absl::StatusOr<core::StreamSocket> Connect(std::vector<SocketAddress> addresses) {
    // The delay is never waited for: what comes next starts because what came before failed.
    return RunTask(*reactor_, ConnectRace(*reactor_, std::move(addresses), {.attempt_delay = std::chrono::hours(1)}));
  }
};

TEST_F(ConnectRaceTest, ConnectsToTheFirst) {
  const core::Listener listener = Listen();
  const auto socket = Connect({listener.local_address(), Closed()});
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->peer_address(), listener.local_address());
}

TEST_F(ConnectRaceTest, GoesOnAtOnceWhenOneIsRefused) {
  const core::Listener listener = Listen();
  const auto socket = Connect({Closed(), Closed(), listener.local_address(), Closed()});
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->peer_address(), listener.local_address());
}

TEST_F(ConnectRaceTest, ListsWhatBecameOfEveryAddress) {
  const SocketAddress first = Closed();
  const SocketAddress second = Closed();
  const auto socket = Connect({first, second});
  ASSERT_FALSE(socket.ok());
  EXPECT_EQ(socket.status().code(), core::ToStatus(core::IoError::kRefused, "x").code());
  EXPECT_THAT(std::string(MessageOf(socket.status())),
              AllOf(HasSubstr(fmt::format("connect to {}: connection refused", first.ToString())),
                    HasSubstr(fmt::format("connect to {}: connection refused", second.ToString()))));
}

TEST_F(ConnectRaceTest, RefusesNoAddresses) { EXPECT_TRUE(absl::IsInvalidArgument(Connect({}).status())); }

// --- the race itself, with attempts that do as they are told ---

core::Task<absl::StatusOr<int>> SucceedAfter(std::chrono::milliseconds delay, int value, int* cancelled) {
  const absl::Status slept = co_await core::Sleep(delay);
  if (absl::IsCancelled(slept)) ++*cancelled;
  if (!slept.ok()) co_return slept;
  co_return value;
}
core::Task<absl::StatusOr<int>> FailWith(std::string words) { co_return Unavailable("{}", words); }

constexpr std::chrono::hours kForever(1);

TEST_F(ConnectRaceTest, RunsOnePastTheDelayAndCancelsTheLosers) {
  int cancelled = 0;
  std::vector<size_t> started;
  const auto outcome =
      RunTask(*reactor_, StaggeredRace<int>(
                             [&](size_t number) {
                               started.push_back(number);
                               return SucceedAfter(number == 2 ? std::chrono::milliseconds(1) : kForever,
                                                   static_cast<int>(number), &cancelled);
                             },
                             4, {.delay = std::chrono::milliseconds(3), .limit = kForever}));
  EXPECT_EQ(outcome.winner, 2);
  EXPECT_EQ(outcome.started, started.size());
  EXPECT_EQ(static_cast<size_t>(cancelled), started.size() - 1);
}

TEST_F(ConnectRaceTest, StartsOneForEachThatFails) {
  int cancelled = 0;
  std::vector<size_t> started;
  const auto outcome = RunTask(*reactor_, StaggeredRace<int>(
                                              [&](size_t number) {
                                                started.push_back(number);
                                                return number < 3
                                                           ? FailWith(fmt::format("attempt {}", number))
                                                           : SucceedAfter(std::chrono::milliseconds(0), 3, &cancelled);
                                              },
                                              9, {.delay = kForever, .limit = kForever}));
  EXPECT_EQ(outcome.winner, 3);
  EXPECT_EQ(started, (std::vector<size_t>{0, 1, 2, 3}));
}

TEST_F(ConnectRaceTest, EndsAtItsLimit) {
  int cancelled = 0;
  const auto outcome = RunTask(
      *reactor_,
      StaggeredRace<int>(
          [&](size_t number) { return number == 0 ? FailWith("first") : SucceedAfter(kForever, 1, &cancelled); }, 3,
          {.delay = kForever, .limit = std::chrono::milliseconds(20)}));
  EXPECT_FALSE(outcome.winner.has_value());
  EXPECT_TRUE(outcome.interruption.ok());
  EXPECT_EQ(cancelled, 1);
  EXPECT_EQ(outcome.started, 2);
  EXPECT_EQ(MessageOf(outcome.failures[0]), "first");
  EXPECT_TRUE(outcome.failures[1].ok());
}

TEST_F(ConnectRaceTest, HandsItsInterruptionOn) {
  int cancelled = 0;
  std::optional<RaceOutcome<int>> outcome;
  core::Scope scope(*reactor_);
  scope.Spawn(StoreResult(StaggeredRace<int>([&](size_t) { return SucceedAfter(kForever, 1, &cancelled); }, 2,
                                             {.delay = kForever, .limit = kForever}),
                          &outcome));
  scope.Cancel();
  ASSERT_TRUE(TurnUntil(*reactor_, [&] { return scope.empty(); }));
  EXPECT_TRUE(absl::IsCancelled(outcome->interruption));
  EXPECT_EQ(cancelled, 1);
}

TEST(OrderForDiallingTest, AlternatesFamiliesStartingWithIpv6) {
  const SocketAddress a = *SocketAddress::Parse("192.0.2.1", 1);
  const SocketAddress b = *SocketAddress::Parse("192.0.2.2", 1);
  const SocketAddress c = *SocketAddress::Parse("192.0.2.3", 1);
  const SocketAddress x = *SocketAddress::Parse("2001:db8::1", 1);
  const SocketAddress y = *SocketAddress::Parse("2001:db8::2", 1);
  EXPECT_EQ(OrderForDialling({a, b, x, a, c, y, x}), (std::vector<SocketAddress>{x, a, y, b, c}));
  EXPECT_EQ(OrderForDialling({y, x}), (std::vector<SocketAddress>{y, x}));
  EXPECT_TRUE(OrderForDialling({}).empty());
}

}  // namespace
}  // namespace tunnel::net
