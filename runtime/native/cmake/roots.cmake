# The folders that are to hold a library, -DROOT=… or the environment's. What was found in others before is forgotten.
function(facemesh_root root prefix title)
  set(${root} "$ENV{${root}}" CACHE STRING "Folders with ${title}'s headers and library")
  if(DEFINED ${root}_BEFORE AND NOT "${${root}}" STREQUAL "${${root}_BEFORE}")
    unset(${prefix}_INCLUDE_DIR CACHE)
    unset(${prefix}_LIBRARY CACHE)
  endif()
  set(${root}_BEFORE "${${root}}" CACHE INTERNAL "")
endfunction()
