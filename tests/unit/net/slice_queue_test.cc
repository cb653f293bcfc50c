// Bytes held in order, and cursors into them, against a string.
#include "net/slice_queue.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace tunnel::net {
namespace {

std::string_view HeldText(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(SliceQueue, CopiesSmallSlicesTogether) {
  core::BufferPool pool;
  SliceQueue queue(pool);
  for (int i = 0; i < 100; ++i) queue.Push(pool.Copy("0123456789"));
  EXPECT_EQ(queue.bytes(), 1000U);
  EXPECT_EQ(pool.blocks_in_use(), 1U);
  queue.Drop(1000);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(pool.blocks_in_use(), 0U) << "an idle queue holds no block";
}

TEST(SliceQueue, HoldsLargeSlicesWithoutACopy) {
  core::BufferPool pool;
  SliceQueue queue(pool);
  core::Slice large = pool.Copy(std::string(core::BufferPool::kBlockBytes[1], 'x'));
  const uint8_t* const where = large.data();
  queue.Push(std::move(large));
  EXPECT_EQ(queue.Pop().data(), where);
}

TEST(SliceQueue, ACursorAtTheEndGoesOnWithWhatComes) {
  core::BufferPool pool;
  SliceQueue queue(pool);
  queue.Push(pool.Copy("abc"));
  SliceQueue::Cursor at = queue.At(3);
  EXPECT_TRUE(queue.Peek(at).empty());
  queue.Push(pool.Copy("def"));  // into the same block
  EXPECT_EQ(HeldText(queue.Peek(at)), "def");
  queue.Drop(3);
  EXPECT_EQ(HeldText(queue.Peek(at)), "def");
  SliceQueue::Advance(at, 3);
  queue.Drop(3);  // its own slice is gone
  EXPECT_TRUE(queue.Peek(at).empty());
  queue.Push(pool.Copy("ghi"));
  EXPECT_EQ(HeldText(queue.Peek(at)), "ghi");
  queue.Clear();
  queue.Push(pool.Copy("jkl"));
  EXPECT_EQ(HeldText(queue.Peek(at)), "jkl");
}

class SliceQueueModel : public testing::TestWithParam<uint64_t> {};

TEST_P(SliceQueueModel, IsAString) {
  std::mt19937_64 random(GetParam());
  const auto below = [&random](uint64_t limit) { return random() % limit; };
  struct Marked {
    SliceQueue::Cursor at;
    size_t offset = 0;  // of all bytes that were ever there
  };
  core::BufferPool pool;
  {
    SliceQueue queue(pool);
    std::string all;
    size_t front = 0;
    std::vector<Marked> cursors;
    const auto drop_those_before = [&] {
      std::erase_if(cursors, [&](const Marked& cursor) { return cursor.offset < front; });
    };
    for (int i = 0; i < 5000; ++i) {
      switch (below(8)) {
        case 0:
        case 1:
        case 2: {
          std::string text(below(4) == 0 ? below(40'000) : below(400), '\0');
          for (char& c : text) c = static_cast<char>(random());
          core::Slice slice = pool.Copy(text);
          if (below(3) == 0 && !slice.empty()) {  // a part of a block that somebody else holds too
            const size_t skip = below(slice.size());
            text = text.substr(skip);
            slice = slice.Share(skip, text.size());
          }
          queue.Push(std::move(slice));
          all += text;
          break;
        }
        case 3: {
          if (queue.empty()) break;
          const core::Slice taken = queue.Pop();
          ASSERT_FALSE(taken.empty());
          ASSERT_EQ(taken.text(), std::string_view(all).substr(front, taken.size()));
          front += taken.size();
          drop_those_before();
          break;
        }
        case 4: {
          const size_t bytes = below(3) == 0 ? queue.bytes() : below(queue.bytes() + 1);
          queue.Drop(bytes);
          front += bytes;
          drop_those_before();
          break;
        }
        case 5:
          if (cursors.size() < 8) {
            const size_t offset = below(queue.bytes() + 1);
            cursors.push_back({queue.At(offset), front + offset});
          }
          break;
        case 6:
          if (below(200) == 0) {
            queue.Clear();
            front = all.size();
            drop_those_before();
          }
          break;
        default:
          for (Marked& cursor : cursors) {
            const std::span<const uint8_t> piece = queue.Peek(cursor.at);
            ASSERT_EQ(piece.empty(), cursor.offset == all.size());
            ASSERT_EQ(HeldText(piece), std::string_view(all).substr(cursor.offset, piece.size()));
            const size_t step = below(piece.size() + 1);
            SliceQueue::Advance(cursor.at, step);
            cursor.offset += step;
          }
      }
      ASSERT_EQ(queue.bytes(), all.size() - front);
      ASSERT_EQ(queue.empty(), front == all.size());
      ASSERT_TRUE(!queue.empty() || pool.blocks_in_use() == 0);
    }
  }
  EXPECT_EQ(pool.blocks_in_use(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SliceQueueModel, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace tunnel::net
