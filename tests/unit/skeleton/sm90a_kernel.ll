
; What the compiler says of the kernel: its second parameter is read where it lies, and how many threads a block has is not known here.
!nvvm.annotations = !{!90000}
!90000 = !{ptr @flex_gpu_forward, !"grid_constant", !90001}
!90001 = !{i32 2}
