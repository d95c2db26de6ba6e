using System.Buffers.Binary;
using KvNode.Storage;
using KvNode.Storage.Snapshots;

namespace KvNode.Server.Hosting;

/// <summary>How to read a gzip snapshot; KvNode's own files are always recognised by their content.</summary>
internal enum SnapshotDialect
{
    /// <summary>By content: kvnode when every key begins with <c>k</c> and they are in order, otherwise
    /// bitraft.</summary>
    Auto,

    /// <summary>Keys carry a leading <c>k</c>, which is taken off. A key without it is an error.</summary>
    KvNode,

    /// <summary>Keys are as they stand.</summary>
    Bitraft,
}

/// <summary>
/// <c>kvnode --parse-snapshot FILE</c>: a snapshot as RESP <c>SET</c> commands, ready for <c>redis-cli --pipe</c>.
/// </summary>
/// <remarks>
/// <para>Reads KvNode's <c>state.bin</c> (an LZ4 frame) and those of the original kvnode and of bitraft (gzip).</para>
/// <para>Nothing is written before the whole input has been read once and verified, checksums and end included: so a
/// damaged file gives no output at all, not the part before the damage. For that the input is read twice; one that
/// cannot be read again (a pipe) is copied, still compressed, to an unnamed file in the temporary directory (TMPDIR)
/// first. Memory is constant. Should the second reading fail (the file changed meanwhile), the output is cut inside a
/// command, which redis-cli reports as an error.</para>
/// <para>A bitraft file whose keys all begin with <c>k</c> cannot be told from a kvnode file. Such a file is taken as
/// kvnode's, with a note on the error stream that names the way to say otherwise.</para>
/// </remarks>
internal static class ParseSnapshot
{
    private const uint Lz4FrameMagic = 0x184D2204;
    private const int CopyBytes = 256 * 1024;

    /// <summary>Reads the file, or standard input for <c>-</c>. Returns the process's exit code.</summary>
    /// <param name="error">Gets one line when something is wrong or worth saying.</param>
    public static int RunFile(
        string path,
        Stream standardInput,
        Stream output,
        TextWriter error,
        SnapshotDialect dialect = SnapshotDialect.Auto)
    {
        if (path == "-")
        {
            return Run(standardInput, output, error, dialect);
        }

        FileStream file;
        try
        {
            file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return Fail(error, ExitCodes.NoInput, e.Message);
        }

        using (file)
        {
            return Run(file, output, error, dialect);
        }
    }

    /// <summary>Writes the input's records as commands. Returns the process's exit code.</summary>
    /// <param name="input">Read from where it stands to its end; stays the caller's.</param>
    /// <param name="output">Gets commands only, and none unless the input is whole. Flushed, stays the
    /// caller's.</param>
    /// <param name="error">Gets one line when something is wrong or worth saying.</param>
    public static int Run(
        Stream input, Stream output, TextWriter error, SnapshotDialect dialect = SnapshotDialect.Auto)
    {
        try
        {
            if (input.CanSeek)
            {
                Convert(input, output, error, dialect);
                return ExitCodes.Ok;
            }

            using var spool = Spool(input);
            Convert(spool, output, error, dialect);
            return ExitCodes.Ok;
        }
        catch (SnapshotFormatException e)
        {
            return Fail(error, ExitCodes.BadData, e.Message);
        }
        catch (DllNotFoundException)
        {
            return Fail(error, ExitCodes.LibraryMissing, "liblz4.so.1 is not installed (Debian package: liblz4-1)");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Fail(error, ExitCodes.InputOutput, e.Message);
        }
    }

    private static void Convert(Stream input, Stream output, TextWriter error, SnapshotDialect dialect)
    {
        var start = input.Position;
        var kind = Recognise(input);
        input.Position = start;
        bool stripPrefix;
        using (var records = Open(kind, input))
        {
            stripPrefix = Survey(records, kind, dialect, error);
        }

        input.Position = start;
        using (var records = Open(kind, input))
        {
            Emit(records, stripPrefix, new SetCommandWriter(output));
        }

        output.Flush();
    }

    private static Kind Recognise(Stream input)
    {
        Span<byte> front = stackalloc byte[4];
        var length = input.ReadAtLeast(front, front.Length, throwOnEndOfStream: false);
        if (length == 4 && BinaryPrimitives.ReadUInt32LittleEndian(front) == Lz4FrameMagic)
        {
            return Kind.Own;
        }

        if (length >= 2 && front[0] == 0x1F && front[1] == 0x8B)
        {
            return Kind.Gzip;
        }

        throw new SnapshotFormatException(length == 0
            ? "the input is empty"
            : "not a snapshot: neither an LZ4 frame (KvNode) nor gzip (kvnode, bitraft)");
    }

    private static SnapshotRecords Open(Kind kind, Stream input) =>
        kind == Kind.Own ? new OwnSnapshotRecords(input) : new LegacySnapshotRecords(input);

    /// <summary>Reads to the end, so that everything is verified, and decides how keys are stored.</summary>
    /// <returns>True when the leading <c>k</c> must be taken off the keys.</returns>
    private static bool Survey(SnapshotRecords records, Kind kind, SnapshotDialect dialect, TextWriter error)
    {
        var previous = new byte[StoreLimits.KeyBytesMax + 1];
        var previousLength = 0;
        var count = 0L;
        var prefixed = 0L;
        var ordered = true;
        var longest = 0;
        while (records.MoveNext())
        {
            var key = records.Key;
            ordered &= count == 0 || previous.AsSpan(0, previousLength).SequenceCompareTo(key) < 0;
            prefixed += !key.IsEmpty && key[0] == (byte)'k' ? 1 : 0;
            longest = Math.Max(longest, key.Length);
            key.CopyTo(previous);
            previousLength = key.Length;
            count++;
        }

        var strip = kind == Kind.Gzip && (dialect == SnapshotDialect.KvNode
            || (dialect == SnapshotDialect.Auto && prefixed == count && ordered));
        if (strip && prefixed != count)
        {
            throw new SnapshotFormatException(
                $"{count - prefixed} of {count} keys do not begin with 'k': not a kvnode file "
                + "(bitraft's has no such prefix)");
        }

        if (longest > StoreLimits.KeyBytesMax + (strip ? 1 : 0))
        {
            throw new SnapshotFormatException($"key of {longest} bytes: over the limit of {StoreLimits.KeyBytesMax}");
        }

        if (strip && dialect == SnapshotDialect.Auto && count > 0)
        {
            error.WriteLine("kvnode: every key begins with 'k': read as a kvnode file, that letter taken off. "
                + "If bitraft wrote it, say --snapshot-format bitraft.");
        }

        return strip;
    }

    private static void Emit(SnapshotRecords records, bool stripPrefix, SetCommandWriter writer)
    {
        try
        {
            while (records.MoveNext())
            {
                writer.Write(stripPrefix ? records.Key[1..] : records.Key, records);
            }
        }
        catch (SnapshotFormatException e)
        {
            // It was whole a moment ago. What went out must not pass for the whole.
            writer.CutInsideCommand();
            throw new SnapshotFormatException(
                $"the file changed while it was read; the output is incomplete: {e.Message}", e);
        }

        writer.Flush();
    }

    /// <summary>An open file without a name: gone with the process, however that ends.</summary>
    private static FileStream Spool(Stream input)
    {
        var path = Path.Combine(Path.GetTempPath(), $"kvnode-parse-{Guid.NewGuid():N}");
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.ReadWrite,
            BufferSize = 0,
        };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        var file = new FileStream(path, options);
        try
        {
            File.Delete(path);
            input.CopyTo(file, CopyBytes);
            file.Position = 0;
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static int Fail(TextWriter error, int code, string message)
    {
        error.WriteLine($"kvnode: parse-snapshot: {message}");
        return code;
    }

    private enum Kind
    {
        Own,
        Gzip,
    }
}
