#include "core/directory_watch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "core/check.h"
#include "reactor_fixture.h"

namespace tunnel::core {
namespace {

using testing::ReactorTest;

class DirectoryWatchTest : public ReactorTest {
 protected:
  void SetUp() override {
    ReactorTest::SetUp();
    std::string pattern = (std::filesystem::temp_directory_path() / "directory-watch-XXXXXX").string();
    TUNNEL_CHECK(mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
    folder_ = root_ / "folder";
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override {
    std::filesystem::remove_all(root_);
    ReactorTest::TearDown();
  }
  static void Write(const std::filesystem::path& path) { std::ofstream(path) << "text"; }
  [[nodiscard]] bool ComesAnother() {
    const int before = changes_;
    return RunUntil([&] { return changes_ > before; });
  }

  std::filesystem::path root_;
  std::filesystem::path folder_;
  int changes_ = 0;
};
TUNNEL_FOR_EVERY_BACKEND(DirectoryWatchTest);

TEST_P(DirectoryWatchTest, TellsOfFilesThatAreWrittenComeAndGo) {
  DirectoryWatch watch(reactor(), folder_.string(), [&] { ++changes_; });
  ASSERT_TRUE(watch.Watch().ok());
  Write(folder_ / "a");
  EXPECT_TRUE(ComesAnother());
  Write(root_ / "b");
  std::filesystem::rename(root_ / "b", folder_ / "b");
  EXPECT_TRUE(ComesAnother());
  std::filesystem::rename(folder_ / "b", root_ / "b");
  EXPECT_TRUE(ComesAnother());
  std::filesystem::remove(folder_ / "a");
  EXPECT_TRUE(ComesAnother());
  Settle();
  const int before = changes_;
  Write(root_ / "elsewhere");
  Settle();
  EXPECT_EQ(changes_, before);
}

TEST_P(DirectoryWatchTest, ADirectoryThatIsReplacedIsWatchedAgainWhenAsked) {
  DirectoryWatch watch(reactor(), folder_.string(), [&] { ++changes_; });
  ASSERT_TRUE(watch.Watch().ok());
  std::filesystem::rename(folder_, root_ / "old");
  EXPECT_TRUE(ComesAnother());
  EXPECT_FALSE(watch.watching());
  EXPECT_FALSE(watch.Watch().ok());
  std::filesystem::create_directory(folder_);
  ASSERT_TRUE(watch.Watch().ok());
  Write(folder_ / "a");
  EXPECT_TRUE(ComesAnother());
  std::filesystem::remove_all(folder_);
  EXPECT_TRUE(RunUntil([&] { return !watch.watching(); }));
}

TEST_P(DirectoryWatchTest, SaysWhatCannotBeWatched) {
  DirectoryWatch watch(reactor(), (root_ / "none").string(), [] {});
  const absl::Status status = watch.Watch();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(std::string(MessageOf(status)).find("none"), std::string::npos);
}

TEST_P(DirectoryWatchTest, MayGoFromInsideItsCallback) {
  bool gone = false;
  std::unique_ptr<DirectoryWatch> watch;
  watch = std::make_unique<DirectoryWatch>(reactor(), folder_.string(), [&] {
    gone = true;
    watch.reset();
  });
  ASSERT_TRUE(watch->Watch().ok());
  Write(folder_ / "a");
  EXPECT_TRUE(RunUntil([&] { return gone; }));
}

TEST_P(DirectoryWatchTest, TemporaryFilesAreOnNoNetwork) { EXPECT_FALSE(IsOnNetworkFileSystem("/proc")); }

}  // namespace
}  // namespace tunnel::core
