// Seeded random use of many sockets at once: everything a handler may do, at any moment, its callbacks included. What
// is checked is that bytes stay in order, that who said goodbye properly was heard to the end, and that nothing is
// left.
#include <list>
#include <random>

#include "core/limits.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::Pattern;
using testing::ReactorTest;
using testing::Sink;

class SocketStressTest : public ReactorTest {};
TUNNEL_FOR_EVERY_BACKEND_AND_SIM(SocketStressTest);

constexpr uint64_t kMaxBytes = uint64_t{400} * 1024;

// One end of a connection that does as the dice say.
class Party final : public StreamSocket::Handler {
 public:
  Party(Reactor& reactor, std::mt19937_64& random, int descriptor) : reactor_(reactor), random_(random) {
    Adopt(descriptor);
  }

  void Act() {
    if (!socket_.open()) return;
    if (error_) return Leave(How::kClose);
    // To leave is rare, or few would have anything to say.
    const uint64_t choice = random_() % 8 == 0 ? random_() % 6 : 6 + random_() % 34;
    switch (choice) {
      case 0:
        if (!finished_) Leave(How::kClose);
        break;
      case 1:
        Leave(How::kReset);
        break;
      case 2:
      case 3:
        Leave(How::kCloseAfterSend);
        break;
      case 4:
      case 5:
        finished_ = true;
        socket_.FinishSend();
        break;
      case 6:
      case 7:
        if (socket_.queued_bytes() == 0 && releasing_ == 0) Release();
        break;
      case 8:
      case 9:
      case 10:
        socket_.SetHandler(nullptr);
        paused_ = true;
        break;
      case 11:
      case 12:
      case 13:
      case 14:
        socket_.PauseReceive();
        paused_ = true;
        break;
      case 15:
        paused_ = false;
        socket_.SetHandler(this);
        socket_.PauseReceive();
        socket_.ResumeReceive();
        break;
      case 16:
      case 17:
      case 18:
      case 19:
      case 20:
      case 21:
        Resume();
        break;
      default:
        SendSome();
    }
  }
  // From now on only reads to the end, and then ends.
  void WindDown() {
    winding_down_ = true;
    Resume();
    if (socket_.open() && (error_ || ended_)) Leave(How::kCloseAfterSend);
  }

  void OnReceive(Slice data) override {
    EXPECT_FALSE(paused_) << "paused";
    EXPECT_FALSE(ended_ || error_) << "after the end";
    sink_.Take(data.bytes());
    if (random_() % 8 == 0) held_ = std::move(data);
    if (!winding_down_ && random_() % 4 == 0) Act();
  }
  void OnReceiveEnd() override {
    EXPECT_FALSE(paused_ || ended_ || error_);
    ended_ = true;
    if (winding_down_) Leave(How::kCloseAfterSend);
  }
  void OnSendDrained() override {
    if (!winding_down_) Act();
  }
  void OnSocketError(IoError error) override {
    EXPECT_EQ(error, IoError::kReset) << ToString(error);
    EXPECT_FALSE(error_);
    error_ = true;
    if (winding_down_) Leave(How::kClose);
  }

  [[nodiscard]] bool open() const { return socket_.open() || releasing_ > 0; }
  [[nodiscard]] bool sound() const { return sink_.sound(); }
  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] uint64_t taken() const { return sink_.taken(); }
  // Sent all it had and its end, and never gave up on the other.
  [[nodiscard]] bool left_properly() const { return how_ == How::kCloseAfterSend && !error_; }
  // Read to the end and gave up on nothing before.
  [[nodiscard]] bool heard_all() const { return ended_ && !error_; }

 private:
  enum class How { kStays, kClose, kReset, kCloseAfterSend };

  void Adopt(int descriptor) {
    ended_ = false;  // a new socket hears the end again
    socket_ = StreamSocket(reactor_, descriptor);
    paused_ = false;
    socket_.SetHandler(this);
  }
  void Resume() {
    if (!socket_.open() || error_) return;
    paused_ = false;
    socket_.SetHandler(this);
  }
  void SendSome() {
    if (finished_ || sent_ >= kMaxBytes) return;
    const size_t size = random_() % 3 == 0 ? 1 + random_() % BufferPool::kMaxBlockBytes : 1 + random_() % 500;
    socket_.Send(reactor_.buffers().Copy(Pattern::Text(sent_, size)));
    sent_ += size;
  }
  void Release() {
    ++releasing_;
    socket_.Release([this](int descriptor, const std::string& received) {
      --releasing_;
      sink_.Take(std::span(reinterpret_cast<const uint8_t*>(received.data()), received.size()));
      Adopt(descriptor);
      if (finished_) socket_.FinishSend();  // the new socket does not know
    });
  }
  void Leave(How how) {
    how_ = how;
    if (how == How::kClose) socket_.Close();
    if (how == How::kReset) socket_.Reset();
    if (how == How::kCloseAfterSend) socket_.CloseAfterSend(testing::kPatience);
  }

  Reactor& reactor_;
  std::mt19937_64& random_;
  StreamSocket socket_;
  Sink sink_;
  Slice held_;
  uint64_t sent_ = 0;
  int releasing_ = 0;
  bool paused_ = false;
  bool finished_ = false;
  bool ended_ = false;
  bool error_ = false;
  bool winding_down_ = false;
  How how_ = How::kStays;
};

TEST_P(SocketStressTest, AnythingAtAnyTime) {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    std::mt19937_64 random(seed);
    std::list<std::pair<Party, Party>> pairs;
    for (int i = 0; i < 60; ++i) {
      auto [one, other] = testing::TcpPair();
      pairs.emplace_back(std::piecewise_construct, std::forward_as_tuple(reactor(), random, one),
                         std::forward_as_tuple(reactor(), random, other));
    }
    for (int turn = 0; turn < 300; ++turn) {
      for (auto& [left, right] : pairs) {
        if (random() % 3 == 0) left.Act();
        if (random() % 3 == 0) right.Act();
      }
      reactor().Turn(reactor().backend().Now());
    }
    const bool all_left = RunUntil([&] {
      bool open = false;
      for (auto& [left, right] : pairs) {
        for (Party* party : {&left, &right}) {
          party->WindDown();
          open = open || party->open();
        }
        // An end may be heard only when the other has left; half-closed both ways, or waiting for each other, both go.
        if (left.open() && right.open()) left.Act(), right.Act();
      }
      return !open;
    });
    ASSERT_TRUE(all_left) << "seed " << seed;
    for (auto& [left, right] : pairs) {
      ASSERT_TRUE(left.sound() && right.sound()) << "seed " << seed;
      if (left.left_properly() && right.heard_all()) {
        ASSERT_EQ(left.sent(), right.taken()) << "seed " << seed;
      }
      if (right.left_properly() && left.heard_all()) {
        ASSERT_EQ(right.sent(), left.taken()) << "seed " << seed;
      }
    }
    pairs.clear();
    ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  }
}

}  // namespace
}  // namespace tunnel::core
