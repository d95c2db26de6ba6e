using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>The shared pool gives a thread back the array it returned last: so these tests see whether it was given one.</summary>
public sealed class BufferPoolTests
{
    private const int Large = 2 * Limits.PooledBufferBytesMax;

    [Fact]
    public void BuffersOfOrdinarySizeAreUsedAgain()
    {
        var buffer = BufferPool.Rent<byte>(Limits.PooledBufferBytesMax);
        BufferPool.Return(buffer);
        Assert.Same(buffer, BufferPool.Rent<byte>(Limits.PooledBufferBytesMax));
        BufferPool.Return(buffer);
    }

    [Fact]
    public void LargeBuffersAreAsLongAsAskedForAndNotKept()
    {
        Assert.Equal(Large + 1, BufferPool.Rent<byte>(Large + 1).Length);
        Assert.Equal(Large, BufferPool.Rent<ArgRange>(Large).Length);

        var buffer = BufferPool.Rent<byte>(Large);
        BufferPool.Return(buffer);
        Assert.NotSame(buffer, ArrayPool<byte>.Shared.Rent(Large));

        var ranges = BufferPool.Rent<ArgRange>(Limits.PooledBufferBytesMax);
        BufferPool.Return(ranges);
        Assert.NotSame(ranges, ArrayPool<ArgRange>.Shared.Rent(Limits.PooledBufferBytesMax));
    }

    [Fact]
    public void ALargeCommandHalfSentIsNotKeptInThePool()
    {
        using var reader = new CommandReader(RespLimits.Default);
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead("*2\r\n$4\r\nECHO\r\n$8000000\r\n"u8, out _, out _));
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead(new byte[8_000_000], out _, out _));
        Assert.Equal(ReadStatus.Command, reader.TryRead("\r\n"u8, out _, out var args));
        var held = reader.HeldBytes;
        ref var gathered = ref MemoryMarshal.GetReference(args.Raw);
        reader.Reset();

        Assert.False(Unsafe.AreSame(ref gathered, ref ArrayPool<byte>.Shared.Rent(held)[0]));
    }

    [Fact]
    public void WhatIsGatheredStaysAsItGrowsOutOfThePool()
    {
        var bytes = new byte[4 * Limits.PooledBufferBytesMax];
        new Random(1).NextBytes(bytes);
        var buffer = default(GatherBuffer);
        var used = 0;
        for (var length = 1000; length <= bytes.Length; length *= 2)
        {
            buffer.Grow(length, used);
            Assert.InRange(buffer.Length, length, Math.Max(2 * length, Limits.PooledBufferBytesMax));
            Assert.Equal(buffer.Length, buffer.Bytes.Length);
            bytes.AsSpan(used, length - used).CopyTo(buffer.Bytes[used..]);
            used = length;
            Assert.True(buffer.Bytes[..used].SequenceEqual(bytes.AsSpan(0, used)));
        }

        Assert.True(used > 2 * Limits.PooledBufferBytesMax);
        buffer.Release();
        Assert.Equal(0, buffer.Length);
        buffer.Release();
    }

    [Fact]
    public void LargeCommandsLeaveNothingToTheGarbageCollector()
    {
        using var reader = new CommandReader(RespLimits.Default);
        var piece = new byte[1_000_000];
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal(ReadStatus.NeedMore, reader.TryRead("*2\r\n$4\r\nECHO\r\n$64000000\r\n"u8, out _, out _));
        for (var i = 0; i < 63; i++)
        {
            Assert.Equal(ReadStatus.NeedMore, reader.TryRead(piece, out _, out _));
        }

        Assert.InRange(reader.HeldBytes, 63_000_000, 2 * 64_000_000);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 * Limits.PooledBufferBytesMax);
        reader.Reset();
        Assert.Equal(0, reader.HeldBytes);
    }

    [Fact]
    public void ALargeReplyIsNotKeptInThePool()
    {
        using var reply = new RespWriter();
        reply.Bulk(new byte[Large - 100]);
        ref var written = ref MemoryMarshal.GetReference(reply.Written);
        reply.Reset();

        Assert.False(Unsafe.AreSame(ref written, ref ArrayPool<byte>.Shared.Rent(Large)[0]));
    }
}
