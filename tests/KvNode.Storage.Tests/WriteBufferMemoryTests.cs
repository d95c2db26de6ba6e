using System.Globalization;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>These look at the whole process, so nothing runs beside them.</summary>
[CollectionDefinition(nameof(WholeProcess), DisableParallelization = true)]
#pragma warning disable CA1515 // the runner finds collection definitions only when they are public
public sealed class WholeProcess;
#pragma warning restore CA1515

/// <summary>Where a write buffer's memory comes from, when it goes back, and what the garbage collector sees of it.</summary>
[Collection(nameof(WholeProcess))]
public sealed class WriteBufferMemoryTests
{
    private const long Megabyte = 1024 * 1024;

    [Fact]
    public void TheLastReleaseGivesTheMemoryBackToTheKernel()
    {
        var buffer = new WriteBuffer(clearsBelow: false);
        var before = ResidentBytes();
        var value = WriteBufferSupport.Repeat(0x55, 10_000);
        for (var i = 0; i < 20_000; i++)
        {
            buffer.Put(1, WriteBufferSupport.Number(i), value);
        }

        var full = ResidentBytes();
        Assert.InRange(full - before, 180 * Megabyte, 240 * Megabyte);
        Assert.InRange(buffer.Bytes, 190 * Megabyte, 205 * Megabyte);

        Assert.True(buffer.TryAddReference());
        buffer.Release();
        Assert.InRange(ResidentBytes() - before, 180 * Megabyte, 240 * Megabyte);
        Assert.Equal(BufferLookup.Value, buffer.TryGet(1, WriteBufferSupport.Number(19_999), out var last));
        Assert.True(last.SequenceEqual(value));

        buffer.Release();
        Assert.False(buffer.TryAddReference());
        Assert.InRange(ResidentBytes() - before, -40 * Megabyte, 40 * Megabyte);
    }

    [Fact]
    public void ReleasingOnceTooOftenIsCaught()
    {
        var buffer = new WriteBuffer(clearsBelow: false);
        buffer.Release();
        Assert.Throws<InvariantException>(buffer.Release);
    }

    [Fact]
    public void ManySmallBuffersLeaveNothingBehind()
    {
        var before = MappedBytes();
        for (var i = 0; i < 2000; i++)
        {
            var buffer = new WriteBuffer(clearsBelow: false);
            for (var k = 0; k < 3; k++)
            {
                buffer.Put(1, WriteBufferSupport.Number(k), WriteBufferSupport.Number(i));
            }

            buffer.Release();
        }

        // One chunk of 4 MiB each, were they kept: 8 GiB.
        Assert.InRange(MappedBytes() - before, long.MinValue, 512 * Megabyte);
    }

    [Fact]
    public void TablesThatWereOutgrownGoBackToo()
    {
        var before = MappedBytes();
        for (var i = 0; i < 40; i++)
        {
            var buffer = new WriteBuffer(clearsBelow: false);
            for (var k = 0; k < 70_000; k++)
            {
                buffer.Put(1, WriteBufferSupport.Number(k), default);
            }

            buffer.Release();
        }

        // Forty times 1 MiB of outgrown tables and 2 MiB of the last, were they kept.
        Assert.InRange(MappedBytes() - before, long.MinValue, 32 * Megabyte);
    }

    [Fact]
    public void LookupsAllocateNothingAndOverwritesNextToNothing()
    {
        var buffer = new WriteBuffer(clearsBelow: false);
        var keys = Keys(10_000);
        var value = new byte[64];
        WriteAll(buffer, keys, 1, value);
        WriteAll(buffer, keys, 2, value);
        ReadAll(buffer, keys);

        // Not asserted in between: an assertion allocates.
        var before = GC.GetAllocatedBytesForCurrentThread();
        var found = ReadAll(buffer, keys);
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(2 * keys.Length, found);
        Assert.Equal(0, allocated);

        // One and a half megabytes of versions: at most the list of chunks grows, once.
        before = GC.GetAllocatedBytesForCurrentThread();
        WriteAll(buffer, keys, 3, value);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 512);

        before = GC.GetAllocatedBytesForCurrentThread();
        foreach (var key in keys)
        {
            buffer.Delete(4, key);
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 512);
        buffer.Release();
    }

    [Fact]
    public void NewKeysCostTheCollectorLessThanTwoBytesEach()
    {
        const int Warm = 40_000;
        var buffer = new WriteBuffer(clearsBelow: false);
        var keys = Keys(140_000);
        WriteAll(buffer, keys.AsSpan(0, Warm), 1, default);

        // Behind the largest run's scratch only the arrays of runs are left, one per 512 keys and merge.
        var before = GC.GetAllocatedBytesForCurrentThread();
        WriteAll(buffer, keys.AsSpan(Warm), 2, default);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 2 * (keys.Length - Warm));
        buffer.Release();
    }

    private static byte[][] Keys(int count)
    {
        var random = new Random(5);
        var keys = new byte[count][];
        for (var i = 0; i < count; i++)
        {
            keys[i] = WriteBufferSupport.Bytes(random, 16);
        }

        return keys;
    }

    private static void WriteAll(WriteBuffer buffer, ReadOnlySpan<byte[]> keys, ulong sequence, ReadOnlySpan<byte> value)
    {
        foreach (var key in keys)
        {
            buffer.Put(sequence, key, value);
        }
    }

    private static int ReadAll(WriteBuffer buffer, byte[][] keys)
    {
        var found = 0;
        foreach (var key in keys)
        {
            found += buffer.TryGet(1, key, out _) == BufferLookup.Value ? 1 : 0;
            found += buffer.TryGet(1, key.AsSpan(1), out _) == BufferLookup.Missing ? 1 : 0;
        }

        return found;
    }

    private static long MappedBytes() => Pages(0);

    private static long ResidentBytes() => Pages(1);

    private static long Pages(int column)
    {
        // Pages, as decimal numbers: mapped, resident, ... (proc_pid_statm(5)).
        var fields = File.ReadAllText("/proc/self/statm").Split(' ');
        return long.Parse(fields[column], CultureInfo.InvariantCulture) * Environment.SystemPageSize;
    }
}
