// A part of a file, read from front to back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../namespace.h"

namespace alma::ALMA_CUDA {

class FileReader {
 public:
  // Throws ERR_ALMA_IO when the file cannot be opened, ERR_ALMA_CHECKPOINT when it is shorter than [offset, offset + bytes).
  FileReader(const std::string& path, uint64_t offset, size_t bytes);
  ~FileReader();
  FileReader(const FileReader&) = delete;
  FileReader& operator=(const FileReader&) = delete;

  void read(void* target, size_t bytes);

 private:
  std::string path_;
  int file_ = -1;
  uint64_t offset_;
};

}  // namespace alma::ALMA_CUDA
