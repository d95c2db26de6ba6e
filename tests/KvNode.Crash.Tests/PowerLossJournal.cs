using System.Buffers.Binary;
using System.Text;
using KvNode.Testing;
using Microsoft.Win32.SafeHandles;

namespace KvNode.Crash.Tests;

/// <summary>What a record of tests/faults/powerloss.c says; the numbers are those of the C source.</summary>
internal enum JournalKind : uint
{
    Root = 1,
    Create = 2,
    Write = 3,
    Truncate = 4,
    Allocate = 5,
    SyncBegin = 6,
    SyncEnd = 7,
    Rename = 8,
    Unlink = 9,
    Link = 10,
    MakeDirectory = 11,
    RemoveDirectory = 12,

    /// <summary>Ours: writer <c>Inode</c> has seen <c>Offset</c> answers.</summary>
    Answer = 100,
}

/// <param name="Object">Number of the file or directory: inodes are used again, objects are not. -1: of no concern.</param>
internal readonly record struct JournalRecord(
    JournalKind Kind, int Object, ulong Inode, long Offset, long Length, bool Durable, string Path, string Second, ReadOnlyMemory<byte> Data);

/// <summary>Everything that was done to a directory, in order, and the answers clients got in between.</summary>
internal sealed class PowerLossJournal
{
    private const uint Magic = 0x4c50564b;
    private const int HeaderBytes = 48;

    private PowerLossJournal(List<JournalRecord> records, int objects, string root)
    {
        Records = records;
        Objects = objects;
        Root = root;
    }

    public IReadOnlyList<JournalRecord> Records { get; }

    /// <summary>Objects are numbered from 0 (the root directory) to below this.</summary>
    public int Objects { get; }

    public string Root { get; }

    /// <summary>Notes an answer, in order with everything the node does.</summary>
    public static void NoteAnswer(SafeFileHandle journal, int writer, int answers)
    {
        Span<byte> record = stackalloc byte[HeaderBytes];
        record.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(record, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(record[4..], (uint)JournalKind.Answer);
        BinaryPrimitives.WriteUInt64LittleEndian(record[8..], (ulong)writer);
        BinaryPrimitives.WriteUInt64LittleEndian(record[16..], (ulong)answers);
        Posix.AppendAtOnce(journal, record);
    }

    public static PowerLossJournal Read(string path)
    {
        ReadOnlyMemory<byte> bytes = File.ReadAllBytes(path);
        var records = new List<JournalRecord>();
        var objects = new Dictionary<ulong, int>();
        var (count, root) = (0, "");
        while (bytes.Length >= HeaderBytes)
        {
            var record = ReadOne(ref bytes);
            switch (record.Kind)
            {
                // Every process under the library says where the root is; the first one's is object 0.
                case JournalKind.Root when root.Length == 0:
                    root = record.Path;
                    objects[record.Inode] = count++;
                    break;
                case JournalKind.Create or JournalKind.MakeDirectory:
                    objects[record.Inode] = count++;
                    break;
                default:
                    break;
            }

            records.Add(record with { Object = objects.GetValueOrDefault(record.Inode, -1) });
        }

        Assert.Equal(0, bytes.Length);
        return new PowerLossJournal(records, count, root);
    }

    private static JournalRecord ReadOne(ref ReadOnlyMemory<byte> bytes)
    {
        var header = bytes.Span[..HeaderBytes];
        Assert.Equal(Magic, BinaryPrimitives.ReadUInt32LittleEndian(header));
        int Size(ReadOnlySpan<byte> at) => BinaryPrimitives.ReadInt32LittleEndian(at);
        var (path, second, data) = (Size(header[36..]), Size(header[40..]), Size(header[44..]));
        var rest = bytes[HeaderBytes..];
        var record = new JournalRecord(
            (JournalKind)BinaryPrimitives.ReadUInt32LittleEndian(header[4..]),
            -1,
            BinaryPrimitives.ReadUInt64LittleEndian(header[8..]),
            BinaryPrimitives.ReadInt64LittleEndian(header[16..]),
            BinaryPrimitives.ReadInt64LittleEndian(header[24..]),
            (Size(header[32..]) & 1) != 0,
            Encoding.UTF8.GetString(rest.Span[..path]),
            Encoding.UTF8.GetString(rest.Span.Slice(path, second)),
            rest.Slice(path + second, data));
        bytes = rest[(path + second + data)..];
        return record;
    }
}
