#include <gtest/gtest.h>

#include <deque>
#include <string>

#include "core/buffer_pool.h"
#include "core/intrusive_list.h"
#include "core/mailbox.h"
#include "core/slice.h"

namespace tunnel::core {
namespace {

// A pool of one buffer that can be told to be scarce.
class LoanOwner final : public BufferOwner {
 public:
  explicit LoanOwner(size_t size) : bytes_(size) {
    buffer_.data = bytes_.data();
    buffer_.capacity = size;
    buffer_.owner = this;
  }
  void Recycle(Buffer& /*buffer*/) override { ++recycled; }
  [[nodiscard]] bool scarce() const override { return is_scarce; }
  Slice Lend(size_t size) { return {buffer_, buffer_.data, size}; }
  int recycled = 0;
  bool is_scarce = false;

 private:
  std::vector<uint8_t> bytes_;
  Buffer buffer_;
};

TEST(BufferPool, ServesEachSizeFromTheSmallestClassThatFits) {
  BufferPool pool;
  for (const size_t block : BufferPool::kBlockBytes) {
    EXPECT_EQ(pool.Allocate(block).size(), block);
    EXPECT_EQ(pool.Allocate(block - 1).size(), block);
  }
  EXPECT_EQ(pool.Allocate(0).size(), BufferPool::kBlockBytes[0]);
  EXPECT_EQ(pool.Allocate(BufferPool::kBlockBytes[0] + 1).size(), BufferPool::kBlockBytes[1]);
  EXPECT_EQ(pool.blocks_in_use(), 0U);
  EXPECT_EQ(pool.bytes_in_use(), 0U);
}

TEST(BufferPool, CountsWhatIsOutAndReusesWhatCameBack) {
  BufferPool pool;
  uint8_t* first = nullptr;
  {
    const Slice slice = pool.Allocate(100);
    first = slice.data();
    EXPECT_EQ(pool.blocks_in_use(), 1U);
    EXPECT_EQ(pool.bytes_in_use(), BufferPool::kBlockBytes[0]);
  }
  EXPECT_EQ(pool.blocks_in_use(), 0U);
  EXPECT_EQ(pool.Allocate(100).data(), first);
}

TEST(BufferPool, KeepsABoundedAmount) {
  BufferPool pool;
  std::vector<Slice> slices;
  for (size_t bytes = 0; bytes <= 2 * BufferPool::kKeptBytes; bytes += BufferPool::kMaxBlockBytes) {
    slices.push_back(pool.Allocate(BufferPool::kMaxBlockBytes));
  }
  slices.clear();  // half of them are freed: ASan's leak check sees the rest through the pool's end
  EXPECT_EQ(pool.bytes_in_use(), 0U);
}

TEST(BufferPool, HoldsWhatIsLargeAndCopiesWhatPinsMuch) {
  BufferPool pool;
  LoanOwner ring(size_t{64} * 1024);
  {
    const Slice held = pool.ForHolding(ring.Lend(10'000));
    EXPECT_EQ(held.buffer()->owner, &ring);
    EXPECT_EQ(ring.recycled, 0);
  }
  EXPECT_EQ(ring.recycled, 1);
  {
    const Slice small = pool.ForHolding(ring.Lend(100));
    EXPECT_EQ(small.buffer()->owner, &pool);
    EXPECT_EQ(ring.recycled, 2) << "the lender has its buffer back at once";
  }
  ring.is_scarce = true;
  const Slice copied = pool.ForHolding(ring.Lend(10'000));
  EXPECT_EQ(copied.buffer()->owner, &pool);
  EXPECT_EQ(ring.recycled, 3);
  EXPECT_TRUE(pool.ForHolding(Slice()).empty());
}

TEST(Slice, SharesCutsAndAppends) {
  BufferPool pool;
  Slice slice = pool.Copy("hello world");
  Slice world = slice.Share(6, 5);
  EXPECT_EQ(world.text(), "world");
  EXPECT_EQ(slice.ShareSpan(world.bytes()).text(), "world");
  EXPECT_EQ(slice.buffer()->references, 2U);
  slice.RemovePrefix(1);
  slice.Truncate(4);
  EXPECT_EQ(slice.text(), "ello");
  world.Reset();
  const std::string more = " there";
  slice.Append(std::span(reinterpret_cast<const uint8_t*>(more.data()), more.size()));
  EXPECT_EQ(slice.text(), "ello there");
  EXPECT_EQ(slice.room(), BufferPool::kBlockBytes[0] - 11);
  Slice moved = std::move(slice);
  moved = pool.Copy("other");
  EXPECT_EQ(moved.text(), "other");
  EXPECT_EQ(pool.blocks_in_use(), 1U);
}

TEST(SliceDeathTest, BrokenUseAborts) {
  BufferPool pool;
  Slice slice = pool.Copy("hello");
  EXPECT_DEATH((void)slice.Share(3, 3), "invariant broken");
  EXPECT_DEATH(slice.RemovePrefix(6), "invariant broken");
  EXPECT_DEATH((void)pool.Allocate(BufferPool::kMaxBlockBytes + 1), "invariant broken");
  const Slice second = slice.Share();
  const uint8_t byte = 0;
  EXPECT_DEATH(slice.Append(std::span(&byte, 1)), "invariant broken");
}

struct Node : ListLink<> {
  explicit Node(int n) : number(n) {}
  int number;
};

TEST(IntrusiveList, KeepsOrderAndLetsElementsLeave) {
  IntrusiveList<Node> list;
  std::deque<Node> nodes;
  for (int i = 0; i < 5; ++i) list.PushBack(nodes.emplace_back(i));
  nodes[2].Unlink();
  nodes[2].Unlink();
  EXPECT_TRUE(list.Validate());
  {
    Node passing(9);
    list.PushBack(passing);
  }
  std::vector<int> seen;
  list.ForEach([&](Node& node) {
    seen.push_back(node.number);
    if (node.number == 3) node.Unlink();
  });
  EXPECT_EQ(seen, (std::vector<int>{0, 1, 3, 4}));
  IntrusiveList<Node> other;
  other.PushBack(nodes[2]);
  other.Append(list);
  EXPECT_TRUE(list.empty());
  EXPECT_EQ(other.PopFront().number, 2);
  EXPECT_EQ(other.front().number, 0);
  EXPECT_TRUE(other.Validate());
}

TEST(Mailbox, RefusesWhenFullAndKeepsOrder) {
  Mailbox<std::string, 4> box;
  std::string text;
  EXPECT_FALSE(box.Pop(text));
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) {
      std::string message = std::to_string(round * 4 + i);
      ASSERT_TRUE(box.Push(message));
    }
    std::string extra = "extra";
    ASSERT_FALSE(box.Push(extra));
    EXPECT_EQ(extra, "extra");
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(box.Pop(text));
      EXPECT_EQ(text, std::to_string(round * 4 + i));
    }
  }
}

}  // namespace
}  // namespace tunnel::core
