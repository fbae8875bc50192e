//! Every entry point, in the order of the ICD dispatch table: one list makes the table that each object points to, the
//! answers of `clGetExtensionFunctionAddress`, and `docs/opencl.md`.
//!
//! The table is that of version 1 of `cl_khr_icd`; loaders check neither its length nor its slots for null, so every slot
//! is filled.
use crate::argument::*;
use crate::buffer::*;
use crate::context::*;
use crate::copy::*;
use crate::device::*;
use crate::event::*;
use crate::image::*;
use crate::image_copy::*;
use crate::image_format::*;
use crate::image_info::*;
use crate::image_map::*;
use crate::image_transfer::*;
use crate::kernel::*;
use crate::kernel_info::*;
use crate::launch::*;
use crate::map::*;
use crate::mem_info::*;
use crate::memory::*;
use crate::pipe::*;
use crate::platform::*;
use crate::program::*;
use crate::program_info::*;
use crate::program_link::*;
use crate::queue::*;
use crate::sampler::*;
use crate::sharing::*;
use crate::svm::*;
use crate::svm_transfer::*;
use crate::transfer::*;

/// Whether an entry does what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Works,
    /// It answers the specification's error for a feature that the device does not have.
    Absent,
}

/// Address of an entry point.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Function(pub *const ());

// SAFETY: the address of code.
unsafe impl Sync for Function {}

/// One row of the list.
pub struct Entry {
    pub name: &'static str,
    /// Version of OpenCL that brought it, or the extension.
    pub since: &'static str,
    pub support: Support,
    #[cfg(test)]
    pub note: &'static str,
    pub function: Function,
}

/// Slots of the dispatch table.
pub const SLOTS: usize = 150;

/// What the first word of every object points to.
#[repr(C)]
pub struct Dispatch([Function; SLOTS]);

macro_rules! entries {
    ($($name:ident = $function:ident, $since:literal, $support:ident, $note:literal;)*) => {
        pub static DISPATCH: Dispatch = Dispatch([$(Function($function as *const ())),*]);

        pub static ENTRIES: &[Entry] = &[
            $(Entry {
                name: stringify!($name),
                since: $since,
                support: Support::$support,
                #[cfg(test)]
                note: $note,
                function: Function($function as *const ()),
            },)*
            // Not in the table: how a loader finds it.
            Entry {
                name: "clIcdGetPlatformIDsKHR",
                since: "cl_khr_icd",
                support: Support::Works,
                #[cfg(test)]
                note: "",
                function: Function(clIcdGetPlatformIDsKHR as *const ()),
            },
        ];
    };
}

entries! {
    clGetPlatformIDs = clGetPlatformIDs, "1.0", Works, "";
    clGetPlatformInfo = clGetPlatformInfo, "1.0", Works, "";
    clGetDeviceIDs = clGetDeviceIDs, "1.0", Works, "";
    clGetDeviceInfo = clGetDeviceInfo, "1.0", Works, "What the driver says, less what does not work here";
    clCreateContext = clCreateContext, "1.0", Works, "";
    clCreateContextFromType = clCreateContextFromType, "1.0", Works, "";
    clRetainContext = clRetainContext, "1.0", Works, "";
    clReleaseContext = clReleaseContext, "1.0", Works, "";
    clGetContextInfo = clGetContextInfo, "1.0", Works, "";
    clCreateCommandQueue = clCreateCommandQueue, "1.0", Works, "";
    clRetainCommandQueue = clRetainCommandQueue, "1.0", Works, "";
    clReleaseCommandQueue = clReleaseCommandQueue, "1.0", Works, "";
    clGetCommandQueueInfo = clGetCommandQueueInfo, "1.0", Works, "";
    clSetCommandQueueProperty = clSetCommandQueueProperty, "1.0", Absent, "Deprecated: CL_INVALID_OPERATION";
    clCreateBuffer = clCreateBuffer, "1.0", Works, "";
    clCreateImage2D = clCreateImage2D, "1.0", Works, "";
    clCreateImage3D = clCreateImage3D, "1.0", Works, "";
    clRetainMemObject = clRetainMemObject, "1.0", Works, "";
    clReleaseMemObject = clReleaseMemObject, "1.0", Works, "";
    clGetSupportedImageFormats = clGetSupportedImageFormats, "1.0", Works, "";
    clGetMemObjectInfo = clGetMemObjectInfo, "1.0", Works, "";
    clGetImageInfo = clGetImageInfo, "1.0", Works, "";
    clCreateSampler = clCreateSampler, "1.0", Works, "";
    clRetainSampler = clRetainSampler, "1.0", Works, "";
    clReleaseSampler = clReleaseSampler, "1.0", Works, "";
    clGetSamplerInfo = clGetSamplerInfo, "1.0", Works, "";
    clCreateProgramWithSource = clCreateProgramWithSource, "1.0", Works, "";
    clCreateProgramWithBinary = clCreateProgramWithBinary, "1.0", Works, "One device per program; binaries that this node made";
    clRetainProgram = clRetainProgram, "1.0", Works, "";
    clReleaseProgram = clReleaseProgram, "1.0", Works, "";
    clBuildProgram = clBuildProgram, "1.0", Works, "`#include` and `-I` mean the guest's files; a callback is called before the call returns";
    clUnloadCompiler = clUnloadCompiler, "1.0", Works, "Nothing to unload";
    clGetProgramInfo = clGetProgramInfo, "1.0", Works, "";
    clGetProgramBuildInfo = clGetProgramBuildInfo, "1.0", Works, "";
    clCreateKernel = clCreateKernel, "1.0", Works, "";
    clCreateKernelsInProgram = clCreateKernelsInProgram, "1.0", Works, "";
    clRetainKernel = clRetainKernel, "1.0", Works, "";
    clReleaseKernel = clReleaseKernel, "1.0", Works, "";
    clSetKernelArg = clSetKernelArg, "1.0", Works, "Structures are checked by the device";
    clGetKernelInfo = clGetKernelInfo, "1.0", Works, "";
    clGetKernelWorkGroupInfo = clGetKernelWorkGroupInfo, "1.0", Works, "";
    clWaitForEvents = clWaitForEvents, "1.0", Works, "";
    clGetEventInfo = clGetEventInfo, "1.0", Works, "";
    clRetainEvent = clRetainEvent, "1.0", Works, "";
    clReleaseEvent = clReleaseEvent, "1.0", Works, "";
    clGetEventProfilingInfo = clGetEventProfilingInfo, "1.0", Works, "";
    clFlush = clFlush, "1.0", Works, "";
    clFinish = clFinish, "1.0", Works, "";
    clEnqueueReadBuffer = clEnqueueReadBuffer, "1.0", Works, "";
    clEnqueueWriteBuffer = clEnqueueWriteBuffer, "1.0", Works, "";
    clEnqueueCopyBuffer = clEnqueueCopyBuffer, "1.0", Works, "";
    clEnqueueReadImage = clEnqueueReadImage, "1.0", Works, "";
    clEnqueueWriteImage = clEnqueueWriteImage, "1.0", Works, "";
    clEnqueueCopyImage = clEnqueueCopyImage, "1.0", Works, "";
    clEnqueueCopyImageToBuffer = clEnqueueCopyImageToBuffer, "1.0", Works, "";
    clEnqueueCopyBufferToImage = clEnqueueCopyBufferToImage, "1.0", Works, "";
    clEnqueueMapBuffer = clEnqueueMapBuffer, "1.0", Works, "Without a copy where the device works in the arena";
    clEnqueueMapImage = clEnqueueMapImage, "1.0", Works, "";
    clEnqueueUnmapMemObject = clEnqueueUnmapMemObject, "1.0", Works, "";
    clEnqueueNDRangeKernel = clEnqueueNDRangeKernel, "1.0", Works, "";
    clEnqueueTask = clEnqueueTask, "1.0", Works, "";
    clEnqueueNativeKernel = clEnqueueNativeKernel, "1.0", Absent, "The device runs in another process: CL_INVALID_OPERATION";
    clEnqueueMarker = clEnqueueMarker, "1.0", Works, "";
    clEnqueueWaitForEvents = clEnqueueWaitForEvents, "1.0", Works, "";
    clEnqueueBarrier = clEnqueueBarrier, "1.0", Works, "";
    clGetExtensionFunctionAddress = clGetExtensionFunctionAddress, "1.0", Works, "";
    clCreateFromGLBuffer = clCreateFromGLBuffer, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clCreateFromGLTexture2D = clCreateFromGLTexture2D, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clCreateFromGLTexture3D = clCreateFromGLTexture3D, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clCreateFromGLRenderbuffer = clCreateFromGLRenderbuffer, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clGetGLObjectInfo = clGetGLObjectInfo, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_GL_OBJECT";
    clGetGLTextureInfo = clGetGLTextureInfo, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_GL_OBJECT";
    clEnqueueAcquireGLObjects = clEnqueueAcquireGLObjects, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clEnqueueReleaseGLObjects = clEnqueueReleaseGLObjects, "1.0", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clGetGLContextInfoKHR = clGetGLContextInfoKHR, "cl_khr_gl_sharing", Absent, "CL_INVALID_GL_SHAREGROUP_REFERENCE_KHR";
    clGetDeviceIDsFromD3D10KHR = absent_status, "cl_khr_d3d10_sharing", Absent, "CL_INVALID_OPERATION";
    clCreateFromD3D10BufferKHR = absent_object_of_4, "cl_khr_d3d10_sharing", Absent, "CL_INVALID_CONTEXT";
    clCreateFromD3D10Texture2DKHR = absent_object_of_5, "cl_khr_d3d10_sharing", Absent, "CL_INVALID_CONTEXT";
    clCreateFromD3D10Texture3DKHR = absent_object_of_5, "cl_khr_d3d10_sharing", Absent, "CL_INVALID_CONTEXT";
    clEnqueueAcquireD3D10ObjectsKHR = absent_status, "cl_khr_d3d10_sharing", Absent, "CL_INVALID_OPERATION";
    clEnqueueReleaseD3D10ObjectsKHR = absent_status, "cl_khr_d3d10_sharing", Absent, "CL_INVALID_OPERATION";
    clSetEventCallback = clSetEventCallback, "1.1", Works, "On a thread of the program's C library; CL_SUBMITTED and CL_RUNNING are told at completion";
    clCreateSubBuffer = clCreateSubBuffer, "1.1", Works, "";
    clSetMemObjectDestructorCallback = clSetMemObjectDestructorCallback, "1.1", Works, "";
    clCreateUserEvent = clCreateUserEvent, "1.1", Works, "";
    clSetUserEventStatus = clSetUserEventStatus, "1.1", Works, "";
    clEnqueueReadBufferRect = clEnqueueReadBufferRect, "1.1", Works, "";
    clEnqueueWriteBufferRect = clEnqueueWriteBufferRect, "1.1", Works, "";
    clEnqueueCopyBufferRect = clEnqueueCopyBufferRect, "1.1", Works, "";
    clCreateSubDevicesEXT = absent_status, "cl_ext_device_fission", Absent, "CL_INVALID_OPERATION";
    clRetainDeviceEXT = absent_status, "cl_ext_device_fission", Absent, "CL_INVALID_OPERATION";
    clReleaseDeviceEXT = absent_status, "cl_ext_device_fission", Absent, "CL_INVALID_OPERATION";
    clCreateEventFromGLsyncKHR = absent_object_of_3, "cl_khr_gl_event", Absent, "CL_INVALID_CONTEXT";
    clCreateSubDevices = clCreateSubDevices, "1.2", Absent, "Devices are leased whole: CL_INVALID_VALUE";
    clRetainDevice = clRetainDevice, "1.2", Works, "Root devices are not counted";
    clReleaseDevice = clReleaseDevice, "1.2", Works, "Root devices are not counted";
    clCreateImage = clCreateImage, "1.2", Works, "";
    clCreateProgramWithBuiltInKernels = clCreateProgramWithBuiltInKernels, "1.2", Absent, "No built-in kernels: CL_INVALID_VALUE";
    clCompileProgram = clCompileProgram, "1.2", Works, "Headers that the program gives come before the guest's files";
    clLinkProgram = clLinkProgram, "1.2", Works, "";
    clUnloadPlatformCompiler = clUnloadPlatformCompiler, "1.2", Works, "Nothing to unload";
    clGetKernelArgInfo = clGetKernelArgInfo, "1.2", Works, "";
    clEnqueueFillBuffer = clEnqueueFillBuffer, "1.2", Works, "";
    clEnqueueFillImage = clEnqueueFillImage, "1.2", Works, "";
    clEnqueueMigrateMemObjects = clEnqueueMigrateMemObjects, "1.2", Works, "Takes its turn; data is in place already";
    clEnqueueMarkerWithWaitList = clEnqueueMarkerWithWaitList, "1.2", Works, "";
    clEnqueueBarrierWithWaitList = clEnqueueBarrierWithWaitList, "1.2", Works, "";
    clGetExtensionFunctionAddressForPlatform = clGetExtensionFunctionAddressForPlatform, "1.2", Works, "";
    clCreateFromGLTexture = clCreateFromGLTexture, "1.2", Absent, "No sharing with OpenGL: CL_INVALID_CONTEXT";
    clGetDeviceIDsFromD3D11KHR = absent_status, "cl_khr_d3d11_sharing", Absent, "CL_INVALID_OPERATION";
    clCreateFromD3D11BufferKHR = absent_object_of_4, "cl_khr_d3d11_sharing", Absent, "CL_INVALID_CONTEXT";
    clCreateFromD3D11Texture2DKHR = absent_object_of_5, "cl_khr_d3d11_sharing", Absent, "CL_INVALID_CONTEXT";
    clCreateFromD3D11Texture3DKHR = absent_object_of_5, "cl_khr_d3d11_sharing", Absent, "CL_INVALID_CONTEXT";
    clCreateFromDX9MediaSurfaceKHR = absent_object_of_6, "cl_khr_dx9_media_sharing", Absent, "CL_INVALID_CONTEXT";
    clEnqueueAcquireD3D11ObjectsKHR = absent_status, "cl_khr_d3d11_sharing", Absent, "CL_INVALID_OPERATION";
    clEnqueueReleaseD3D11ObjectsKHR = absent_status, "cl_khr_d3d11_sharing", Absent, "CL_INVALID_OPERATION";
    clGetDeviceIDsFromDX9MediaAdapterKHR = absent_status, "cl_khr_dx9_media_sharing", Absent, "CL_INVALID_OPERATION";
    clEnqueueAcquireDX9MediaSurfacesKHR = absent_status, "cl_khr_dx9_media_sharing", Absent, "CL_INVALID_OPERATION";
    clEnqueueReleaseDX9MediaSurfacesKHR = absent_status, "cl_khr_dx9_media_sharing", Absent, "CL_INVALID_OPERATION";
    clCreateFromEGLImageKHR = absent_object_of_6, "cl_khr_egl_image", Absent, "CL_INVALID_CONTEXT";
    clEnqueueAcquireEGLObjectsKHR = absent_status, "cl_khr_egl_image", Absent, "CL_INVALID_OPERATION";
    clEnqueueReleaseEGLObjectsKHR = absent_status, "cl_khr_egl_image", Absent, "CL_INVALID_OPERATION";
    clCreateEventFromEGLSyncKHR = absent_object_of_4, "cl_khr_egl_event", Absent, "CL_INVALID_CONTEXT";
    clCreateCommandQueueWithProperties = clCreateCommandQueueWithProperties, "2.0", Works, "";
    clCreatePipe = clCreatePipe, "2.0", Absent, "No pipes: CL_INVALID_OPERATION";
    clGetPipeInfo = clGetPipeInfo, "2.0", Absent, "No pipes: CL_INVALID_MEM_OBJECT";
    clSVMAlloc = clSVMAlloc, "2.0", Works, "Coarse-grained, where kernels run on the host's processors; not in sessions that recover";
    clSVMFree = clSVMFree, "2.0", Works, "";
    clEnqueueSVMFree = clEnqueueSVMFree, "2.0", Works, "";
    clEnqueueSVMMemcpy = clEnqueueSVMMemcpy, "2.0", Works, "";
    clEnqueueSVMMemFill = clEnqueueSVMMemFill, "2.0", Works, "";
    clEnqueueSVMMap = clEnqueueSVMMap, "2.0", Works, "Without a copy";
    clEnqueueSVMUnmap = clEnqueueSVMUnmap, "2.0", Works, "";
    clCreateSamplerWithProperties = clCreateSamplerWithProperties, "2.0", Works, "";
    clSetKernelArgSVMPointer = clSetKernelArgSVMPointer, "2.0", Works, "";
    clSetKernelExecInfo = clSetKernelExecInfo, "2.0", Works, "";
    clGetKernelSubGroupInfoKHR = clGetKernelSubGroupInfoKHR, "cl_khr_sub_groups", Works, "";
    clCloneKernel = clCloneKernel, "2.1", Works, "";
    clCreateProgramWithIL = clCreateProgramWithIL, "2.1", Works, "Where the device takes SPIR-V";
    clEnqueueSVMMigrateMem = clEnqueueSVMMigrateMem, "2.1", Works, "Takes its turn; data is in place already";
    clGetDeviceAndHostTimer = clGetDeviceAndHostTimer, "2.1", Works, "Both clocks are CLOCK_MONOTONIC";
    clGetHostTimer = clGetHostTimer, "2.1", Works, "";
    clGetKernelSubGroupInfo = clGetKernelSubGroupInfo, "2.1", Works, "";
    clSetDefaultDeviceCommandQueue = clSetDefaultDeviceCommandQueue, "2.1", Absent, "No queues on devices: CL_INVALID_OPERATION";
    clSetProgramReleaseCallback = clSetProgramReleaseCallback, "2.2", Works, "";
    clSetProgramSpecializationConstant = clSetProgramSpecializationConstant, "2.2", Works, "";
    clCreateBufferWithProperties = clCreateBufferWithProperties, "3.0", Works, "";
    clCreateImageWithProperties = clCreateImageWithProperties, "3.0", Works, "";
    clSetContextDestructorCallback = clSetContextDestructorCallback, "3.0", Works, "";
    clGetKernelSuggestedLocalWorkSize = clGetKernelSuggestedLocalWorkSize, "3.1", Absent, "CL_INVALID_OPERATION";
}
