using System.Globalization;

namespace KvNode.Server.Commands;

/// <summary>What the kernel says of this process's memory, in bytes.</summary>
/// <param name="Resident">All pages in memory.</param>
/// <param name="ResidentPeak">The most there ever were.</param>
/// <param name="Anonymous">Those that are the process's own.</param>
/// <param name="MappedFiles">Those of mapped files: the kernel takes them back when it needs memory.</param>
internal readonly record struct ProcessMemory(long Resident, long ResidentPeak, long Anonymous, long MappedFiles)
{
    /// <summary>Reads <c>/proc/self/status</c> (proc(5)); zeros where there is none.</summary>
    public static ProcessMemory Read()
    {
        try
        {
            return Parse(File.ReadAllText("/proc/self/status"));
        }
        catch (IOException)
        {
            return default;
        }
    }

    /// <summary>Lines of the form <c>VmRSS:\t   12345 kB</c>.</summary>
    internal static ProcessMemory Parse(string status)
    {
        long resident = 0, peak = 0, anonymous = 0, files = 0;
        foreach (var line in status.AsSpan().EnumerateLines())
        {
            var colon = line.IndexOf(':');
            if (colon < 0)
            {
                continue;
            }

            switch (line[..colon])
            {
                case "VmRSS":
                    resident = Kilobytes(line[(colon + 1)..]);
                    break;
                case "VmHWM":
                    peak = Kilobytes(line[(colon + 1)..]);
                    break;
                case "RssAnon":
                    anonymous = Kilobytes(line[(colon + 1)..]);
                    break;
                case "RssFile":
                    files = Kilobytes(line[(colon + 1)..]);
                    break;
            }
        }

        return new ProcessMemory(resident, peak, anonymous, files);
    }

    private static long Kilobytes(ReadOnlySpan<char> text)
    {
        text = text.Trim();
        var end = text.IndexOf(' ');
        var digits = end < 0 ? text : text[..end];
        return long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value * 1024 : 0;
    }
}
