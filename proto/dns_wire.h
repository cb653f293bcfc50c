// Cursors over DNS messages: numbers in network order, every read checked against the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tunnel::proto {

// Reads forward through a view. A read past the end returns false and leaves the cursor and its output as they were.
class WireReader {
 public:
  explicit WireReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }

  [[nodiscard]] bool ReadU8(uint8_t& value) {
    if (remaining() < 1) return false;
    value = bytes_[offset_++];
    return true;
  }
  [[nodiscard]] bool ReadU16(uint16_t& value) {
    if (remaining() < 2) return false;
    value = static_cast<uint16_t>(bytes_[offset_] << 8 | bytes_[offset_ + 1]);
    offset_ += 2;
    return true;
  }
  [[nodiscard]] bool ReadU32(uint32_t& value) {
    if (remaining() < 4) return false;
    uint16_t high = 0;
    uint16_t low = 0;
    (void)(ReadU16(high) && ReadU16(low));
    value = static_cast<uint32_t>(high) << 16 | low;
    return true;
  }
  [[nodiscard]] bool ReadBytes(size_t size, std::span<const uint8_t>& value) {
    if (remaining() < size) return false;
    value = bytes_.subspan(offset_, size);
    offset_ += size;
    return true;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t offset_ = 0;
};

inline void AppendU16(std::vector<uint8_t>& out, size_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}

inline void AppendU32(std::vector<uint8_t>& out, uint32_t value) {
  AppendU16(out, value >> 16);
  AppendU16(out, value & 0xffff);
}

inline void AppendBytes(std::vector<uint8_t>& out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Overwrites the two bytes at `offset`, which are there already.
inline void PatchU16(std::vector<uint8_t>& out, size_t offset, size_t value) {
  out[offset] = static_cast<uint8_t>(value >> 8);
  out[offset + 1] = static_cast<uint8_t>(value);
}

}  // namespace tunnel::proto
