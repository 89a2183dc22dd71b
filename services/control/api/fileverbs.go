package api

import (
	"context"

	"google.golang.org/grpc"

	pawlv1 "github.com/pawl-dev/pawl/gen/pawl/v1"
)

// Stat implements FileService.
func (f *fileHandler) Stat(ctx context.Context, req *pawlv1.StatRequest) (*pawlv1.StatResponse, error) {
	verb := &pawlv1.Execute{Verb: &pawlv1.Execute_Stat{Stat: &pawlv1.Stat{Path: req.GetPath()}}}
	res, err := f.do(ctx, req.GetTarget(), req.GetPath(), listFiles, verb)
	if err != nil {
		return nil, err
	}
	s := res.GetStat()
	return &pawlv1.StatResponse{
		IsFile: s.GetIsFile(), IsDir: s.GetIsDir(), IsSymlink: s.GetIsSymlink(), Size: s.GetSize(),
		Mtime: s.GetMtime(), Mode: s.GetMode(), LinkTarget: s.GetLinkTarget(),
	}, nil
}

// ReadDir implements FileService.
func (f *fileHandler) ReadDir(
	req *pawlv1.ReadDirRequest, stream grpc.ServerStreamingServer[pawlv1.ReadDirResponse],
) error {
	verb := &pawlv1.Execute{Verb: &pawlv1.Execute_ReadDir{ReadDir: &pawlv1.ReadDir{Path: req.GetPath()}}}
	res, err := f.do(stream.Context(), req.GetTarget(), req.GetPath(), listFiles, verb)
	if err != nil {
		return err
	}
	names := res.GetNames().GetNames()
	for {
		n := cut(names, maxWeight, weighName)
		if err := stream.Send(&pawlv1.ReadDirResponse{Names: names[:n]}); err != nil {
			return err
		}
		if names = names[n:]; len(names) == 0 {
			return nil
		}
	}
}

func weighName(name *[]byte) int { return len(*name) + 4 } // and its frame

// Exists implements FileService.
func (f *fileHandler) Exists(ctx context.Context, req *pawlv1.ExistsRequest) (*pawlv1.ExistsResponse, error) {
	verb := &pawlv1.Execute{Verb: &pawlv1.Execute_Exists{Exists: &pawlv1.Exists{Path: req.GetPath()}}}
	res, err := f.do(ctx, req.GetTarget(), req.GetPath(), listFiles, verb)
	if err != nil {
		return nil, err
	}
	return &pawlv1.ExistsResponse{Exists: res.GetExists().GetExists()}, nil
}

// MakeDir implements FileService.
func (f *fileHandler) MakeDir(ctx context.Context, req *pawlv1.MakeDirRequest) (*pawlv1.MakeDirResponse, error) {
	verb := &pawlv1.Execute{Verb: &pawlv1.Execute_MakeDir{MakeDir: &pawlv1.MakeDir{
		Path:      req.GetPath(),
		Recursive: req.GetRecursive(),
	}}}
	if _, err := f.do(ctx, req.GetTarget(), req.GetPath(), writeFiles, verb); err != nil {
		return nil, err
	}
	return &pawlv1.MakeDirResponse{}, nil
}

// Remove implements FileService.
func (f *fileHandler) Remove(ctx context.Context, req *pawlv1.RemoveRequest) (*pawlv1.RemoveResponse, error) {
	verb := &pawlv1.Execute{Verb: &pawlv1.Execute_Remove{Remove: &pawlv1.Remove{
		Path: req.GetPath(), Recursive: req.GetRecursive(), Force: req.GetForce(), Condition: req.GetCondition(),
	}}}
	if err := checkCondition(req.GetCondition()); err != nil {
		return nil, err
	}
	if _, err := f.do(ctx, req.GetTarget(), req.GetPath(), removeFiles, verb); err != nil {
		return nil, err
	}
	return &pawlv1.RemoveResponse{}, nil
}
