using System.Text;
using KvNode.Storage.Lmdb;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>What is on disk is frozen: whoever changes one of these lines changes every user's data.</summary>
public sealed class LayoutTests
{
    private static readonly DiskOptions Options = new() { MapBytes = 16L << 20, MapBytesFloor = 1L << 20 };

    [Fact]
    public void EveryRecordOnDiskIsAsTheReadmeSays()
    {
        using var directory = new DiskTestDirectory();
        using (var disk = DiskKeyspace.Open(directory.Path, Options))
        {
            using var writer = disk.BeginWrite();
            writer.Put(""u8, "\0empty"u8);
            writer.Put("a"u8, "\0one"u8);
            writer.Put(Filled((byte)'b', 510), "\0longest short"u8);
            writer.Put(Filled((byte)'c', 511), "\0link only"u8);
            writer.Put(Filled((byte)'d', 512), "\0rest 1"u8);
            writer.Put(Filled((byte)'d', 1013), "\0rest 502"u8);
            writer.Put(Filled((byte)'d', 1014), "\0rest 503: second link"u8);
            writer.SetState(new DiskState
            {
                AppliedIndex = 0x0102030405060708,
                AppliedTerm = 0x1112131415161718,
                Count = 7,
                ClockMs = 0x3132333435363738,
                NextItemId = 0x4142434445464748,
            });
            writer.Commit();
        }

        Assert.Equal(
            """
            c
            d
              61 -> 00 6f6e65
              62*510 -> 00 6c6f6e676573742073686f7274
              63*511 -> 0000000000000001
              64*511 -> 0000000000000002
            e
            sys
              656d707479 -> 00 656d707479
              666f726d6174 -> 4b564e4400000001
              7374617465 -> 01020304050607081112131415161718000000000000000700000000000000043132333435363738414243444546474800*16
            x
              0000000000000001 -> 00 6c696e6b206f6e6c79
              000000000000000264 -> 00 726573742031
              000000000000000264*502 -> 00 7265737420353032
              000000000000000264*503 -> 0000000000000003
              0000000000000003 -> 00 72657374203530333a207365636f6e64206c696e6b

            """, Dump(directory.Path), ignoreLineEndingDifferences: true);
    }

    [Fact]
    public void WhatAClusterAddsOnDiskIsAsTheReadmeSays()
    {
        using var directory = new DiskTestDirectory();
        using (var disk = DiskKeyspace.Open(directory.Path, Options))
        {
            using var writer = disk.BeginWrite();
            var state = new DiskState
            {
                AppliedIndex = 9,
                AppliedTerm = 2,
                ClockMs = 3,
                InstalledIndex = 0x5152535455565758,
                InstalledTerm = 0x6162636465666768,
            };
            writer.SetState(state, [0xE0, 0xE1]);
            writer.Commit();
        }

        Assert.Equal(
            """
            c
            d
            e
            sys
              656e67696e65 -> e0e1
              666f726d6174 -> 4b564e4400000002
              7374617465 -> 00000000000000090000000000000002000000000000000000000000000000010000000000000003000000000000000051525354555657586162636465666768
            x

            """, Dump(directory.Path), ignoreLineEndingDifferences: true);
    }

    [Fact]
    public void NumbersOfTheLayoutAreFrozen()
    {
        Assert.Equal((1u, 2u), (Layout.FormatVersionPlain, Layout.FormatVersionCluster));
        Assert.Equal(511, Layout.LinkBytes);
        Assert.Equal(510, Layout.ShortKeyBytesMax);
        Assert.Equal(503, Layout.ChunkBytes);
        Assert.Equal(8, Layout.BucketIdBytes);
        Assert.Equal(1ul, Layout.FirstBucketId);
        Assert.Equal(64, Layout.StateBytes);
        Assert.Equal(65_536, StoreLimits.KeyBytesMax);
        Assert.Equal(49_152, StoreLimits.EngineStateBytesMax);
        Assert.Equal(
            [0x00, 0x01, 0x10, 0x11, 0x12, 0x13],
            Enum.GetValues<ValueTag>().Select(tag => (int)tag).ToArray());
    }

    [Fact]
    public void StateAndFormatComeBackAsWritten()
    {
        var state = new DiskState
        {
            AppliedIndex = ulong.MaxValue,
            AppliedTerm = 2,
            Count = long.MaxValue,
            ClockMs = 4,
            NextItemId = 5,
            InstalledIndex = 6,
            InstalledTerm = 7,
        };
        Span<byte> record = new byte[Layout.StateBytes];
        record.Fill(0xEE);
        Layout.WriteState(record, state, 99);
        Assert.True(Layout.TryReadState(record, out var read, out var next));
        Assert.Equal((state, 99ul), (read, next));
        Assert.False(Layout.TryReadState(record[1..], out _, out _));

        Layout.WriteFormat(record, 7);
        Assert.True(Layout.TryReadFormat(record[..Layout.FormatBytes], out var version));
        Assert.Equal(7u, version);
        Assert.False(Layout.TryReadFormat("KVNX\0\0\0\u0001"u8, out _));
        Assert.False(Layout.TryReadFormat(record, out _));
    }

    internal static byte[] Filled(byte value, int length)
    {
        var bytes = new byte[length];
        Array.Fill(bytes, value);
        return bytes;
    }

    /// <summary>Every database and record through LMDB itself, knowing nothing of the layout.</summary>
    private static string Dump(string directory)
    {
        var text = new StringBuilder();
        using var environment = LmdbEnvironment.Open(directory, LmdbNative.MDB_NOTLS, 16 << 20, 16 << 20, 8);
        var names = new List<byte[]>();
        using (var transaction = environment.BeginRead())
        {
            using var cursor = transaction.OpenCursor(transaction.OpenMainDatabase());
            for (var more = cursor.Move(LmdbCursorOperation.First); more; more = cursor.Move(LmdbCursorOperation.Next))
            {
                names.Add(cursor.Key.ToArray());
            }
        }

        foreach (var name in names)
        {
            _ = text.Append(Encoding.ASCII.GetString(name)).Append('\n');
            using var transaction = environment.BeginRead();
            Assert.True(transaction.TryOpenDatabase(name, create: false, out var database));
            using var cursor = transaction.OpenCursor(database);
            for (var more = cursor.Move(LmdbCursorOperation.First); more; more = cursor.Move(LmdbCursorOperation.Next))
            {
                _ = text.Append("  ").Append(Hex(cursor.Key)).Append(" -> ");
                _ = text.Append(HexValue(cursor.Value, name.AsSpan().SequenceEqual("sys"u8))).Append('\n');
            }
        }

        return text.ToString();
    }

    /// <summary>A stored value shows its tag apart; records of 8 bytes and those of sys do not have one.</summary>
    private static string HexValue(ReadOnlySpan<byte> value, bool system) =>
        value[0] != 0 || value.Length == 8 || (system && value.Length == Layout.StateBytes)
            ? Hex(value)
            : $"00 {Hex(value[1..])}";

    /// <summary>Hexadecimal, runs of 16 and more as byte*count.</summary>
    private static string Hex(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder();
        while (!bytes.IsEmpty)
        {
            var run = bytes.IndexOfAnyExcept(bytes[0]);
            run = run < 0 ? bytes.Length : run;
            var taken = run >= 16 ? run : 1;
            _ = text.Append($"{bytes[0]:x2}").Append(run >= 16 ? $"*{run}" : "");
            bytes = bytes[taken..];
        }

        return text.ToString();
    }
}
