{
  # Everything that asks for node-gyp (npm rebuild, electron-rebuild, prebuildify) ends up in CMakeLists.txt: it is the only list of
  # sources. gyp runs an action again only when its inputs change, so develop with `npm run build:native`, not `node-gyp build`.
  "targets": [
    {
      "target_name": "alma_native",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake_js",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/alma_native.node"],
          "action": [
            "node",
            "<!(node -p \"require.resolve('cmake-js/bin/cmake-js')\")",
            "build",
            "--directory", "<(module_root_dir)",
            "--config", "<(CONFIGURATION_NAME)",
            "--out", "<(module_root_dir)/build/cmake"
          ]
        }
      ]
    }
  ]
}
