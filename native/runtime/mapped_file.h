// A part of a file mapped into memory, privately: what is written there never reaches the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace alma {

class MappedFile {
 public:
  MappedFile() = default;
  // Maps [offset, offset + bytes). Throws ERR_ALMA_IO when the file cannot be opened, ERR_ALMA_CHECKPOINT when it is shorter.
  MappedFile(const std::string& path, uint64_t offset, size_t bytes);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  void* data() const { return data_; }

 private:
  void* base_ = nullptr;
  size_t length_ = 0;
  void* data_ = nullptr;
};

}  // namespace alma
