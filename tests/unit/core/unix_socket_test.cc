// Unix sockets through Listener and Connect, and what becomes of their files.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <list>

#include "core/listener.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::ReactorTest;
using testing::Recorder;

class UnixSocketTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    std::string name = (std::filesystem::temp_directory_path() / "unix-socket-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    listener_.Close();
    accepted_.clear();
    if (reactor_ != nullptr) {
      EXPECT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
    }
    EXPECT_FALSE(std::filesystem::exists(path())) << "the file outlived its listener";
    std::filesystem::remove_all(folder_);
    ReactorTest::TearDown();
  }

  [[nodiscard]] std::string path() const { return folder_ / "socket"; }
  [[nodiscard]] SocketAddress address() const { return *SocketAddress::Unix(path()); }
  absl::Status Listen() {
    auto listener = Listener::Open(reactor(), address(), true, [this](StreamSocket socket, const SocketAddress& peer) {
      accepted_.push_back(std::move(socket));
      peers_.push_back(peer.ToString());
    });
    if (listener.ok()) listener_ = *std::move(listener);
    return listener.status();
  }
  static Task<void> ConnectInto(Reactor* reactor, SocketAddress address, absl::StatusOr<StreamSocket>* result) {
    *result = co_await core::Connect(*reactor, address);
  }
  absl::StatusOr<StreamSocket> ConnectNow() {
    absl::StatusOr<StreamSocket> result = Internal("no result");
    Scope scope(reactor());
    scope.Spawn(ConnectInto(&reactor(), address(), &result));
    EXPECT_TRUE(RunUntil([&] { return scope.empty(); }));
    return result;
  }
  // A socket file as a process leaves it that was killed.
  void LeaveStaleFile() const {
    const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(bind(descriptor, address().kernel(), address().kernel_length()), 0);
    close(descriptor);
  }

  std::filesystem::path folder_;
  Listener listener_;
  std::list<StreamSocket> accepted_;
  std::vector<std::string> peers_;
};
TUNNEL_FOR_EVERY_BACKEND(UnixSocketTest);

TEST_P(UnixSocketTest, CarriesBytesBothWaysAndEnds) {
  ASSERT_TRUE(Listen().ok());
  EXPECT_EQ(listener_.local_address(), address());
  auto socket = ConnectNow();
  ASSERT_TRUE(socket.ok()) << socket.status();
  ASSERT_TRUE(RunUntil([&] { return accepted_.size() == 1; }));
  EXPECT_EQ(peers_.front(), "unix:");
  EXPECT_EQ(socket->peer_address().ToString(), "unix:" + path());
  Recorder near;
  Recorder far;
  socket->SetHandler(&near);
  accepted_.front().SetHandler(&far);
  socket->Send(Bytes("there"));
  accepted_.front().Send(Bytes("and back"));
  socket->FinishSend();
  ASSERT_TRUE(RunUntil([&] { return far.ends == 1 && near.received.size() == 8; }));
  EXPECT_EQ(far.received, "there");
  EXPECT_EQ(near.received, "and back");
  accepted_.front().CloseAfterSend(std::chrono::seconds(5));
  ASSERT_TRUE(RunUntil([&] { return near.ends == 1; }));
}

TEST_P(UnixSocketTest, FileIsPrivateAndGoesWithItsListener) {
  ASSERT_TRUE(Listen().ok());
  struct stat info = {};
  ASSERT_EQ(lstat(path().c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  listener_.Close();
  ASSERT_TRUE(RunUntil([&] { return !std::filesystem::exists(path()); }));
  EXPECT_EQ(ConnectNow().status().code(), absl::StatusCode::kUnavailable);
}

TEST_P(UnixSocketTest, AStaleFileIsReplaced) {
  LeaveStaleFile();
  ASSERT_TRUE(std::filesystem::exists(path()));
  ASSERT_TRUE(Listen().ok());
  EXPECT_TRUE(ConnectNow().ok());
}

TEST_P(UnixSocketTest, ALivingOneIsNotStolen) {
  ASSERT_TRUE(Listen().ok());
  auto second = Listener::Open(reactor(), address(), false, [](StreamSocket, const SocketAddress&) { FAIL(); });
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(MessageOf(second.status()), "listen on unix:" + path() + ": address already in use");
  EXPECT_TRUE(ConnectNow().ok());
}

TEST_P(UnixSocketTest, OtherFilesAreLeftAlone) {
  std::ofstream(path()) << "precious";
  EXPECT_FALSE(Listen().ok());
  EXPECT_EQ(std::filesystem::file_size(path()), 8U);
  std::filesystem::remove(path());
  std::filesystem::create_symlink(folder_ / "elsewhere", path());
  EXPECT_FALSE(Listen().ok());
  EXPECT_TRUE(std::filesystem::is_symlink(std::filesystem::symlink_status(path())));
  std::filesystem::remove(path());
}

TEST_P(UnixSocketTest, AFileThatTookItsPlaceIsLeftAlone) {
  ASSERT_TRUE(Listen().ok());
  std::filesystem::remove(path());
  std::ofstream(path()) << "another's";
  listener_.Close();
  ASSERT_TRUE(RunUntil([&] { return reactor().counters().sockets_open.Get() == 0; }));
  EXPECT_TRUE(std::filesystem::exists(path()));
  std::filesystem::remove(path());
}

TEST_P(UnixSocketTest, SaysWhyItCannotListenOrConnect) {
  const auto nowhere = *SocketAddress::Unix((folder_ / "missing" / "socket").string());
  auto listener = Listener::Open(reactor(), nowhere, false, [](StreamSocket, const SocketAddress&) { FAIL(); });
  ASSERT_FALSE(listener.ok());
  EXPECT_THAT(std::string(MessageOf(listener.status())), ::testing::HasSubstr("no such file or directory"));
  EXPECT_THAT(std::string(MessageOf(ConnectNow().status())), ::testing::HasSubstr("no such file or directory"));
  LeaveStaleFile();
  EXPECT_THAT(std::string(MessageOf(ConnectNow().status())), ::testing::HasSubstr("connection refused"));
  std::filesystem::remove(path());
}

}  // namespace
}  // namespace tunnel::core
