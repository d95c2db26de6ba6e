using System.Buffers;
using System.Runtime.CompilerServices;

namespace KvNode.Server.Resp;

/// <summary>
/// The shared pool for buffers of ordinary size. A large one, which a single client's command or reply made grow, is
/// allocated at the size asked for and left to the garbage collector: the pool rounds up to a power of two, and keeps what
/// it is given long after the client has gone.
/// </summary>
/// <remarks>Any thread. What is rented here goes back here, once.</remarks>
internal static class BufferPool
{
    /// <returns>An array of <paramref name="length"/> or more; its content is anything.</returns>
    public static T[] Rent<T>(int length)
        where T : unmanaged =>
        IsPooled<T>(length) ? ArrayPool<T>.Shared.Rent(length) : GC.AllocateUninitializedArray<T>(length);

    public static void Return<T>(T[] buffer)
        where T : unmanaged
    {
        if (IsPooled<T>(buffer.Length))
        {
            ArrayPool<T>.Shared.Return(buffer);
        }
    }

    private static bool IsPooled<T>(int length) => (long)length * Unsafe.SizeOf<T>() <= Limits.PooledBufferBytesMax;
}
